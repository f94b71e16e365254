"""The report: one HTML file without network; verdict first, then pictures, charts folded below."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.config.composition import Config
from src.evaluation.significance import Verdict, signed
from src.studies.plan.study import Row
from src.studies.report import fair_table
from src.studies.report.differences import over_axis, with_intervals
from src.studies.report.gallery import galleries
from src.studies.report.style import style
from src.studies.report.table import NOT_RUN, caption, entry_text, is_certain, study_hash
from src.studies.report.training import curves, explanations, pretrainings
from src.studies.results.cost import Cost, cost
from src.studies.results.results import Results
from src.studies.run.estimate import clock

FOLDER = Path(__file__).parent
TONES = {"helped": "up", "harmed": "down", "mixed": "flat", "inconclusive": "flat", "one seed": "flat"}
WORDS = {
    "helped": "It helped.",
    "harmed": "It made results worse.",
    "mixed": "Mixed: better by one measure, worse by another.",
    "inconclusive": "Inconclusive.",
    "one seed": "One seed is not enough.",
}
ONE_SEED = {
    "helped": "Better on these images; one seed proves nothing.",
    "harmed": "Worse on these images; one seed proves nothing.",
    "mixed": "Mixed, from one seed.",
    "inconclusive": "Inconclusive.",
}


def html(results: Results) -> str:
    """The whole page."""
    study = results.study
    return template().render(
        study=study,
        style=style(),
        verdict=verdict(results),
        places={(row, column): place(results, row, column) for row in study.rows for column in study.columns},
        caption=caption(results),
        fair=fair_table.rows(results),
        fair_note=fair_table.NOTE,
        **galleries(results),
        **explanations(results),
        failures=results.failures,
        charts=[section for section in (over_axis(results), with_intervals(results), curves(results)) if section],
        costs=costs(results),
        facts=facts(results),
        texts=texts(results),
    )


@cache
def template() -> Any:
    """The page's template, every value of which is escaped unless it is markup."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def verdict(results: Results) -> dict[str, Any]:
    """One word for the first row and column, its sentence, and a line for each other."""
    if not results.study.judged:
        said = "This scale is a smoke test: its numbers say nothing about the method."
        return {"tone": "flat", "word": "No verdict.", "sentence": said, "classes": "", "others": [], "one_seed": False}
    if not results.verdicts:
        baseline = results.study.rows[results.study.baseline].label
        said = f"{baseline} and another row need results first; run the study to compute them."
        return {
            "tone": "flat",
            "word": "No verdict yet.",
            "sentence": said,
            "classes": "",
            "others": [],
            "one_seed": False,
        }
    if results.fair:
        return fair_box(results)
    (first, main), *others = results.verdicts.items()
    return {
        "tone": TONES[main.word],
        "word": word(main),
        "sentence": sentence(results, first, main),
        "classes": main.class_sentence(),
        "others": [sentence(results, key, item) for key, item in others],
        "one_seed": main.seeds == 1,
    }


def fair_box(results: Results) -> dict[str, Any]:
    """The same where two probes are judged together: the first pre-trained row stands above the others."""
    study = results.study
    trained = [item for item in results.fair if study.rows[item.row].pretrain is not None]
    main = (trained or results.fair)[0]
    others = [fair_table.sentence(results, item) for item in results.fair if item is not main]
    single = main.verdict.evidence.seeds == 1
    certain = main.verdict.word in ("helped", "harmed") and not single
    classes = results.verdicts.get(main.places[0])
    return {
        "tone": TONES[main.verdict.word] if certain else "flat",
        "word": ONE_SEED[main.verdict.word] if single else WORDS[main.verdict.word],
        "sentence": fair_table.sentence(results, main),
        "classes": "" if classes is None else classes.class_sentence(),
        "others": others + [sentence(results, key, item) for key, item in results.other_verdicts.items()],
        "one_seed": single,
    }


def word(item: Verdict) -> str:
    """The verdict in one line; of a single seed, what is seen on its images."""
    if item.seeds > 1 or not item.miou.certain:
        return WORDS[item.word]
    return ONE_SEED["helped" if item.miou.difference > 0 else "harmed"]


def sentence(results: Results, key: tuple[str, str], item: Verdict) -> str:
    """A verdict in words."""
    row, column = key
    return item.sentence(f"{results.study.rows[row].label} ({results.study.columns[column].label})")


def place(results: Results, row: str, column: str) -> dict[str, Any]:
    """One place of the table."""
    entry = results.entries[row, column]
    if entry.mean is None:
        return {"mean": None, "rest": entry_text(entry)}
    spread = f"± {entry.std:.{entry.digits}f} " if entry.std is not None else ""
    count = f"({len(entry.values)})" if entry.moved_by_seed else "(nothing random)"
    difference, judged = results.difference(row, column), results.verdicts.get((row, column))
    sure = judged is not None and is_certain(judged)
    return {
        "mean": f"{entry.mean:.{entry.digits}f}",
        "best": (row, column) in results.best,
        "rest": f"{spread}{count}{f' {NOT_RUN}' if entry.missing else ''}",
        "chip": None if difference is None else signed(difference, entry.digits),
        "tone": ("up" if (difference or 0) > 0 else "down") if sure else "flat",
        "sure": sure,
    }


def costs(results: Results) -> dict[str, dict[str, str]]:
    """Parameters, time and memory of each row by its label; nothing where none is known."""
    paid = {row.label: row_cost(results, row) for row in results.study.rows.values()}
    if all(item.memory is None for item in paid.values()):
        return {}
    return {label: item.texts() for label, item in paid.items()}


def row_cost(results: Results, row: Row) -> Cost:
    """Cost of a row."""
    study = results.study
    cells = {cell.identity: cell for cell in study.cells_of(row.name) if results.store.done(cell)}
    seeds = len({cell.needs.seed if cell.needs else cell.seed for cell in cells.values()})
    return cost(pretrainings(results, row), [results.store.folder(cell) for cell in cells.values()], max(1, seeds))


def facts(results: Results) -> dict[str, str]:
    """Command, configuration, commit and hardware."""
    study, found = results.study, results.provenances
    known = {"Command": study.command, "Configuration": study_hash(results)}
    if not found:
        return known
    newest = max(found, key=lambda item: item["finished"])
    return known | {
        "Commit": ", ".join(sorted({item["commit"] for item in found})),
        "Hardware": ", ".join(sorted({item["hardware"] for item in found})),
        "Versions": ", ".join(f"{name} {newest[name]}" for name in ("python", "torch", "lightning", "timm")),
        "Computing": f"{clock(sum(item['seconds'] for item in found))} in {len(found)} stages",
        "Peak memory": f"{max(item['peak_memory_bytes'] for item in found) / 2**30:.1f} GiB a stage",
        "Finished": newest["finished"].replace("T", " "),
    }


def texts(results: Results) -> dict[str, str]:
    """The study's file, and the configuration of each stage without seeds and run folders."""
    study = results.study
    found = {"The study": study.path.read_text(encoding="utf-8")} if study.path.is_file() else {}
    configurations: dict[str, Config] = {
        cell.title.rpartition(", seed")[0].capitalize(): cell.config for cell in study.cells.values()
    }
    return found | {
        title: yaml.safe_dump(config, sort_keys=False, allow_unicode=True) for title, config in configurations.items()
    }
