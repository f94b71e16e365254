"""Does dense structure, which needs no labels, tell a gain from a loss? Its agreement with measured changes of mIoU.

    python benchmarks/structure_calibration.py OUT.yaml runs/STUDY "local terms=runs/ADAPTED" SCREENING.json …

Each argument is the folder of a study, of `evidence` or of `adapt` with masks, or the results of
benchmarks/screening.py, with the name of the setting in front where it has no better one. For each adaptation the
change of the monitor's structure from frozen to the last step is compared with the change of the linear probe's mIoU.
Prints Kendall's τ and the agreement in sign, over all runs and within each data set, and writes the runs to OUT.yaml:
the reference that `adapt` uses where there are no masks (src/evaluation/structure_reference.yaml).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import yaml

from src.core.atomic_files import write_text
from src.core.errors import MissingFile
from src.core.json_files import read_json
from src.evaluation.structure_reference import MeasuredRun, agreement
from src.studies.results.verdicts import comparisons, pretrainings, read_table

STRUCTURE = "monitor/structure"


def structure_change(folder: Path) -> float:
    """Change of the monitor's structure from frozen to the last check of a pre-training.

    Raises:
        MissingFile: If the run has no such check.
    """
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        checks = [row for row in csv.DictReader(file) if row.get(STRUCTURE) and row.get(f"{STRUCTURE}/frozen")]
    if not checks:
        raise MissingFile(f"{folder / 'metrics.csv'}: expected values of {STRUCTURE}, found none; run with the monitor")
    return float(checks[-1][STRUCTURE]) - float(checks[-1][f"{STRUCTURE}/frozen"])


def of_screening(path: Path) -> Iterator[MeasuredRun]:
    """The adaptations of a screening that have a structure; records of some loops have none."""
    for one in read_json(path)["cells"]:
        if one.get("stage") == "screening" and "structure change" in one:
            yield MeasuredRun(
                one["domain"], one["setting"], one["structure change"], round(one["change"]["miou"][0], 2)
            )


def of_study(folder: Path) -> Iterator[MeasuredRun]:
    """The adaptations of a study, by its linear columns, seed by seed."""
    for item in comparisons(folder, read_table(folder)):
        if "linear" not in item.column["name"]:
            continue
        for before, after in item.pairs:
            scores = [read_json(cell / "metrics.json")["values"]["miou"] for cell in (before, after)]
            for pretraining in pretrainings([after]):
                data = read_json(after / "cell.json")["hashed"]["config"]["data"]["class_path"].split(".")[1]
                change = 100 * (scores[1] - scores[0])
                yield MeasuredRun(data, item.row["label"], round(structure_change(pretraining), 4), round(change, 2))


def of_evidence(folder: Path) -> Iterator[MeasuredRun]:
    """The adaptations of an `evidence`, method by method and seed by seed."""
    content = read_json(folder / "evidence.json")
    for method, judged in content["methods"].items():
        for seed, scores in zip(content["seeds"], judged["scores"], strict=True):
            change = scores["miou"] - content["frozen"]["miou"]
            structure = structure_change(folder / "runs" / f"{method}-{seed}")
            yield MeasuredRun(content["data"], method, round(structure, 4), round(change, 2))


def of_adapted(folder: Path) -> Iterator[MeasuredRun]:
    """The adaptation of `adapt` with masks."""
    change = read_json(folder / "verdict.json")["changes"]["miou"]["difference"]
    yield MeasuredRun(folder.name, "adapt", round(structure_change(folder), 4), round(change, 2))


def runs_of(argument: str) -> Iterator[MeasuredRun]:
    """The adaptations of one argument of the command line."""
    setting, _, place = argument.rpartition("=")
    path = Path(place)
    kinds = {"verdict.json": of_adapted, "evidence.json": of_evidence}
    known = (kind for name, kind in kinds.items() if (path / name).is_file())
    found = of_screening if path.suffix == ".json" else next(known, of_study)
    for run in found(path):
        yield run._replace(setting=setting) if setting else run


def main() -> None:
    """Print the agreement and write the runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="[SETTING=]RUNS")
    options = parser.parse_args()
    runs = [run for argument in options.runs for run in runs_of(argument)]
    domains = sorted({run.domain for run in runs})
    for name, chosen in [("all", runs), *((each, [run for run in runs if run.domain == each]) for each in domains)]:
        if len(chosen) >= 3:
            tau, same, count = agreement(tuple(chosen))
            print(f"{name}: Kendall's tau {tau:+.2f}, same sign in {same} of {count} runs")
    text = yaml.safe_dump({"runs": [run._asdict() for run in runs]}, sort_keys=False, width=120)
    write_text(options.out, f"# Written by benchmarks/structure_calibration.py; docs/did-it-help.md\n{text}")


if __name__ == "__main__":
    main()
