"""``python -m src publish STUDY``: copy what a study found from runs/ to results/, where a person commits it."""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.commands.options import OptionParser
from src.spelling import nearest

TABLES = ("table.md", "table.tex", "table.csv", "table.json", "table.svg", "table.png")
OF_CELLS = ("metrics.json", "provenance.json", "cell.json", "guards.json")
PAINTED = {"scenes"}  # data whose pictures are ours to publish; a report shows pictures of the others


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = OptionParser(
        prog="python -m src publish",
        description="Copies a study's tables and its cells' numbers with their provenance; no pictures of data sets.",
        allow_abbrev=False,
    )
    result.add_argument("study", help="the study's folder under --runs, such as camvid or main-mini")
    result.add_argument("--runs", type=Path, default=Path("runs"), help="where cells and results lie (runs)")
    result.add_argument("--results", type=Path, default=Path("results"), help="where to publish (results)")
    return result


def main(arguments: Sequence[str]) -> None:
    """Publishes a study.

    Raises:
        FileNotFoundError: if the study has left no table.
    """
    options = parser().parse_args(list(arguments))
    source, target = options.runs / options.study, options.results / options.study
    if not (source / "table.json").is_file():
        known = sorted(path.parent.name for path in options.runs.glob("*/table.json"))
        raise FileNotFoundError(
            f"{source / 'table.json'}: no such file{nearest(options.study, known)}; run the study first, "
            f"found tables of {', '.join(known) or 'none'}"
        )
    table = json.loads((source / "table.json").read_text(encoding="utf-8"))
    cells = cells_of(table, options.runs / "cells")
    shutil.rmtree(target, ignore_errors=True)  # what an earlier version published and this one lacks must not stay
    for cell in cells:
        copy(options.runs / "cells" / cell, target / "cells" / cell, OF_CELLS)
    report = ("report.html",) if {column["data"] for column in table["columns"]} <= PAINTED else ()
    copy(source, target, (*TABLES, *report))
    print(
        f"{target}: {len(cells)} cells, {', '.join(path.name for path in sorted(target.iterdir()) if path.is_file())}"
    )
    if not report:
        print("report.html stays in runs/: it shows images of a data set that is not ours to publish")
    if dirty := [commit for commit in table["commits"] if commit.endswith("-dirty")]:
        print(f"warning: computed from uncommitted changes ({', '.join(dirty)})")


def cells_of(table: dict[str, Any], folder: Path) -> list[str]:
    """The finished cells behind a table, each pre-training before what needs it."""
    found: dict[str, None] = {}
    for entry in (entry for row in table["rows"] for entry in row["entries"].values()):
        for cell in entry["cells"]:
            if (folder / cell / "metrics.json").is_file():
                needs = json.loads((folder / cell / "cell.json").read_text(encoding="utf-8"))["needs"]
                found |= dict.fromkeys([needs, cell] if needs else [cell])
    return list(found)


def copy(source: Path, target: Path, names: Sequence[str]) -> None:
    """Copies those of the files that are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
