"""``python -m src publish STUDY``: copy a study's results from runs/ to results/, to be committed by hand."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from src.commands.options import OptionParser
from src.config.nearest import nearest
from src.core.atomic_folders import exchanging
from src.core.errors import CommandLineError, MissingFile, UserError
from src.core.json_files import read_json
from src.core.names import path_part
from src.studies.plan.cells import finished

TABLES = ("table.md", "table.tex", "table.csv", "table.json", "table.svg", "table.png")
OF_CELLS = ("metrics.json", "provenance.json", "cell.json", "guards.json")


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src publish",
        description="Copies a study's tables and its cells' numbers with their provenance; no pictures of data sets.",
    )
    result.add_argument("study", help="name of the study's folder in --runs, such as camvid or main-mini")
    result.add_argument("--runs", type=Path, default=Path("runs"), help="folder of cells and results (runs)")
    result.add_argument("--results", type=Path, default=Path("results"), help="where to publish (results)")
    return result


def main(arguments: Sequence[str]) -> None:
    """Publish a study.

    Raises:
        CommandLineError: if the name is a path instead of a folder's name in --runs.
        MissingFile: if the study has no table yet.
        UserError: if --results overlaps the study or its cells.
    """
    options = parser().parse_args(list(arguments))
    try:
        name = path_part(options.study, "STUDY")
    except ValueError as error:
        raise CommandLineError(f"{error}. Folders of runs and results are given by --runs and --results") from None
    source, target, store = options.runs / name, options.results / name, options.runs / "cells"
    if not (source / "table.json").is_file():
        known = sorted(path.parent.name for path in options.runs.glob("*/table.json"))
        raise MissingFile(
            f"{source / 'table.json'}: no such file{nearest(name, known)}; run the study first, "
            f"found tables of {', '.join(known) or 'none'}"
        )
    table = read_json(source / "table.json", {"rows": list, "columns": list, "commits": list})
    if table is None:
        raise UserError(f"{source / 'table.json'}: expected a study's table, found a damaged file; run the study again")
    cells = cells_of(table, store)
    refuse_overlap(target, (source, store))
    with exchanging(target) as new:  # remove files that only an earlier version published
        for cell in cells:
            copy(store / cell, new / "cells" / cell, OF_CELLS)
        copy(source, new, TABLES)
    print(
        f"{target}: {len(cells)} cells, {', '.join(path.name for path in sorted(target.iterdir()) if path.is_file())}"
    )
    print("report.html stays in runs/: it shows images of the data; python -m src study makes it again")
    if dirty := [commit for commit in table["commits"] if commit.endswith("-dirty")]:
        print(f"warning: computed from uncommitted changes ({', '.join(dirty)})")


def cells_of(table: dict[str, Any], folder: Path) -> list[str]:
    """The finished cells of a table, each pre-training before its dependants.

    Raises:
        UserError: if a cell's name in the table or in a `cell.json` is a path.
    """
    found: dict[str, None] = {}
    for entry in (entry for row in table["rows"] for entry in row["entries"].values()):
        for cell in entry["cells"]:
            path_part(cell, "table.json, cells")
            if finished(folder / cell):
                described = read_json(folder / cell / "cell.json", {"needs": (str, NoneType)})
                if described is None:
                    raise UserError(
                        f"{folder / cell / 'cell.json'}: expected the definition of the cell, found none; "
                        "delete the cell and run the study again"
                    )
                needs = described["needs"]
                found |= dict.fromkeys([path_part(needs, f"{cell}/cell.json, needs"), cell] if needs else [cell])
    return list(found)


def refuse_overlap(target: Path, sources: Sequence[Path]) -> None:
    """Refuse a target that overlaps a source folder, also through links.

    Raises:
        UserError: with both.
    """
    there = target.resolve()
    for source in sources:
        here = source.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise UserError(
                f"{target}: expected a folder that does not overlap {source}, which is copied from; give another "
                "--results"
            )


def copy(source: Path, target: Path, names: Sequence[str]) -> None:
    """Copy those of the files that exist."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
