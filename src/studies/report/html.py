"""The report: one HTML file without network, in which the verdict comes first."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import yaml

from src.config.composition import Config
from src.evaluation.significance import Verdict, signed
from src.studies.plan.study import Row
from src.studies.report.charts import Bar, Levels, axis_chart, figure, interval_chart, keys
from src.studies.report.gallery import feature_gallery, overlay_gallery
from src.studies.report.table import NOT_RUN, caption, is_certain, study_hash
from src.studies.report.training import curves, explanations, pretrainings
from src.studies.results.cost import Cost, cost
from src.studies.results.results import Results
from src.studies.results.samples import Samples, read_samples
from src.studies.run.estimate import clock

TONES = {"helped": "up", "harmed": "down", "no evidence": "flat", "one seed": "flat"}
WORDS = {
    "helped": "It helped.",
    "harmed": "It did harm.",
    "no evidence": "No evidence that it changed anything.",
    "one seed": "One seed proves nothing yet.",
}
KEPT = {
    True: "With its adapters off, {row} gives the features of the frozen backbone bit for bit: checked on evaluation "
    "images, and the weights below still have the hash that they were loaded with.",
    False: "With its adapters off, {row} does not give the frozen backbone's features: its own weights were trained.",
}


def html(results: Results) -> str:
    """The whole page."""
    sections = [
        heading(results),
        verdict(results),
        table(results),
        axis(results),
        differences(results),
        costs(results),
        curves(results),
        *pictures(results),
        explanations(results),
        failures(results),
        record(results),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    title = escape(results.study.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(results: Results) -> str:
    """Title and what was compared."""
    study = results.study
    seeds = len(study.seeds)
    rows = ", ".join(row.label for row in study.rows.values())
    return (
        f"<header><h1>{escape(study.title)}</h1>"
        f'<p class="soft">{escape(rows)} · {seeds} seed{"s" if seeds > 1 else ""}</p></header>'
    )


def verdict(results: Results) -> str:
    """One word for the first row and column, its sentence, and a line for each other."""
    if not results.study.judged:
        return (
            '<section class="verdict flat" aria-label="Verdict"><p class="word">No verdict.</p>'
            "<p>This size checks the plumbing: its numbers say nothing about the method.</p></section>"
        )
    if not results.verdicts:
        baseline = results.study.rows[results.study.baseline].label
        return (
            '<section class="verdict flat" aria-label="Verdict"><p class="word">No verdict yet.</p>'
            f"<p>{escape(baseline)} and another row must both be there.</p></section>"
        )
    (first, main), *others = results.verdicts.items()
    rest = "".join(f"<li>{escape(sentence(results, key, item))}</li>" for key, item in others)
    return (
        f'<section class="verdict {TONES[main.word]}" aria-label="Verdict"><p class="word">{WORDS[main.word]}</p>'
        f'<p class="main">{escape(sentence(results, first, main))}</p>'
        f"<p>{escape(main.class_sentence())}</p>{f'<ul>{rest}</ul>' if rest else ''}</section>"
    )


def sentence(results: Results, key: tuple[str, str], item: Verdict) -> str:
    """A verdict in words."""
    row, column = key
    return item.sentence(f"{results.study.rows[row].label} ({results.study.columns[column].label})")


def table(results: Results) -> str:
    """Means with their deviations, and differences that are bold where they are certain."""
    study = results.study
    head = "".join(f'<th scope="col">{escape(column.label)}</th>' for column in study.columns.values())
    body = []
    for row in study.rows.values():
        places = "".join(f"<td>{place(results, row.name, column)}</td>" for column in study.columns)
        body.append(f'<tr><th scope="row">{escape(row.label)}</th>{places}</tr>')
    return (
        f'<section><h2>Results</h2><div class="card scroll"><table><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><p class="soft">{escape(caption(results))}</p></section>'
    )


def axis(results: Results) -> str:
    """The columns as curves over the rows, where the study has an axis that rows lie on."""
    study = results.study
    marks = sorted({row.at for row in study.rows.values() if row.at is not None})
    if not study.axis or len(marks) < 2:
        return ""
    series = []
    for number, column in enumerate(study.columns.values()):
        entries = {row.at: results.entries[row.name, column.name] for row in study.rows.values() if row.at is not None}
        points = {at: (item.mean, item.std or 0.0) for at, item in entries.items() if item.mean is not None}
        if points:
            series.append(Levels(column.label, number, points))
    if not series:
        return ""
    chart = figure(f"Over {study.axis}", axis_chart("Result", study.axis, marks, series))
    note = "Mean and standard deviation over the seeds; the marks are evenly spaced, their steps are not even."
    return (
        f'<section><h2>Result over {escape(study.axis)}</h2><p class="soft">{note}</p>'
        f'{keys([item.label for item in series])}<div class="charts">{chart}</div></section>'
    )


def costs(results: Results) -> str:
    """Parameters, time and memory of each row."""
    study = results.study
    paid = {row.label: row_cost(results, row) for row in study.rows.values()}
    if all(item.memory is None for item in paid.values()):
        return ""
    names = [name.removeprefix("of ") for name in next(iter(paid.values())).texts()]
    head = "".join(f'<th scope="col">{escape(name[:1].upper() + name[1:])}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in item.texts().values())
        + "</tr>"
        for label, item in paid.items()
    )
    return (
        f'<section><h2>Cost</h2><div class="card scroll"><table><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def row_cost(results: Results, row: Row) -> Cost:
    """What a row took."""
    study = results.study
    cells = {
        cell.identity: cell
        for column in study.columns
        for seed in study.seeds
        if results.store.done(cell := results.cell(row.name, column, seed))
    }
    seeds = len({cell.needs.seed if cell.needs else cell.seed for cell in cells.values()})
    return cost(pretrainings(results, row), [results.store.folder(cell) for cell in cells.values()], max(1, seeds))


def place(results: Results, row: str, column: str) -> str:
    """One place of the table."""
    entry = results.entries[row, column]
    if entry.mean is None:
        return f'<span class="rest">{NOT_RUN}</span>'
    spread = f"± {entry.std:.{entry.digits}f} " if entry.std is not None else ""
    count = f"({len(entry.values)})" if entry.moved_by_seed else "(nothing random)"
    best = " best" if (row, column) in results.best else ""
    text = f'<span class="mean{best}">{entry.mean:.{entry.digits}f}</span> <span class="rest">{spread}{count}'
    text += f" {NOT_RUN}</span>" if entry.missing else "</span>"
    difference = results.difference(row, column)
    if difference is not None:
        judged = results.verdicts.get((row, column))
        sure = judged is not None and is_certain(judged)
        tone = ("up" if difference > 0 else "down") if sure else "flat"
        text += f'<span class="chip {tone}{" sure" if sure else ""}">{signed(difference, entry.digits)}</span>'
    return text


def differences(results: Results) -> str:
    """The differences with their intervals, over all, and class by class for the first verdict."""
    if not results.verdicts:
        return ""
    study = results.study
    several = len(study.rows) > 2
    bars = [
        Bar(
            f"{study.rows[row].label}, {study.columns[column].label}" if several else study.columns[column].label,
            v.miou,
            is_certain(v),
        )
        for (row, column), v in results.verdicts.items()
    ]
    (row, column), first = next(iter(results.verdicts.items()))
    baseline = study.rows[study.baseline].label
    charts = [figure(f"mIoU, difference to {baseline}", interval_chart("Difference in mIoU", bars))]
    if first.classes:
        classes = [Bar(name, item, item.certain and first.seeds > 1) for name, item in first.classes.items()]
        classes.sort(key=lambda bar: -bar.interval.difference)
        name = f"Each class, {study.columns[column].label}"
        charts.append(
            figure(f"{name} ({study.rows[row].label})", interval_chart(f"{name}: difference in IoU", classes))
        )
    return (
        '<section><h2>How sure</h2><p class="soft">Points of IoU with 95 % intervals over images and seeds; those of '
        "classes are widened for their number. Grey reaches over zero.</p>"
        f'<div class="charts">{"".join(charts)}</div></section>'
    )


def pictures(results: Results) -> Iterator[str]:
    """What the features and the heads make of a few images, before and after."""
    chosen = samples_of_both(results)
    if chosen is None:
        return
    row, before, after = chosen
    baseline = results.study.rows[results.study.baseline].label
    yield overlay_gallery(before, after, baseline, row.label)
    if after.restored is not None:
        yield (
            '<section><h2>What is left as it was</h2><p class="card">'
            f"{escape(KEPT[after.restored].format(row=row.label))}</p></section>"
        )
    yield feature_gallery(before, after, baseline, row.label)


def samples_of_both(results: Results) -> tuple[Row, Samples, Samples] | None:
    """The pictures of the first pre-trained row and the baseline, of a column and seed that both have."""
    study = results.study
    for row in study.rows.values():
        for column in study.columns:
            for seed in study.seeds:
                cells = [results.cell(name, column, seed) for name in (study.baseline, row.name)]
                if row.name == study.baseline:
                    continue
                before, after = (read_samples(results.store.folder(cell) / "samples.npz") for cell in cells)
                if before is not None and after is not None:
                    return row, before, after
    return None


def failures(results: Results) -> str:
    """The cells that failed, with the ends of their logs."""
    if not results.failures:
        return ""
    items = "".join(
        f'<div class="card failed"><p><strong>{escape(item["title"])}</strong>: {escape(item["reason"])}</p>'
        f"<pre>{escape(chr(10).join(item['log']))}</pre></div>"
        for item in results.failures
    )
    return f"<section><h2>Failed</h2>{items}</section>"


def record(results: Results) -> str:
    """Configuration, environment, commit and hash."""
    study, found = results.study, results.provenances
    facts = {"Command": f"python -m src study {study.path.as_posix()}", "Configuration": study_hash(results)}
    if found:
        newest = max(found, key=lambda item: item["finished"])
        facts |= {
            "Commit": ", ".join(sorted({item["commit"] for item in found})),
            "Hardware": ", ".join(sorted({item["hardware"] for item in found})),
            "Versions": ", ".join(f"{name} {newest[name]}" for name in ("python", "torch", "lightning", "timm")),
            "Computing": f"{clock(sum(item['seconds'] for item in found))} in {len(found)} stages",
            "Peak memory": f"{max(item['peak_memory_bytes'] for item in found) / 2**30:.1f} GiB a stage",
            "Finished": newest["finished"].replace("T", " "),
        }
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    texts = {"The study": study.path.read_text(encoding="utf-8")} if study.path.is_file() else {}
    texts |= {title: dump(config) for title, config in configurations(results).items()}
    shown = "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in texts.items()
    )
    return f'<section><h2>Record</h2><div class="card"><dl>{listed}</dl></div>{shown}</section>'


def configurations(results: Results) -> dict[str, Config]:
    """The configuration of each stage, without seeds and run folders."""
    return {cell.title.rpartition(", seed")[0].capitalize(): cell.config for cell in results.study.cells.values()}


def dump(config: Config) -> str:
    """A configuration as yaml."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
