"""``python -m src study FILE``: run the missing cells of a study, then write its table and report."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from src.commands.options import OptionParser, whole_number
from src.config.defaults import completed
from src.config.keys import check_keys
from src.config.prerequisites import check_sizes, check_writable
from src.core.errors import CommandLineError, UserError, wrong_command_line
from src.studies.plan.cells import Cell, Store
from src.studies.plan.stated_cost import stated_text
from src.studies.plan.study import Study
from src.studies.run.allocation import add_options, allocation
from src.studies.run.forecast import check_complete, chosen, listing, plan
from src.studies.run.runner import Runner, default_jobs, visible_accelerators
from src.studies.run.same_data import check_same_data


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src study",
        description="Runs the cells of a study that are missing, and writes their table and report.",
    )
    result.add_argument("file", type=Path, help="the study, such as experiments/studies/quickstart.yaml")
    result.add_argument("--runs", type=Path, default=Path("runs"), help="folder of cells and results (runs)")
    result.add_argument("--scale", help="one of the file's scales, such as mini or paper")
    result.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a row, a column or ROW/COLUMN; may be repeated"
    )
    result.add_argument("--seed", action="append", default=[], type=int, metavar="N", help="a seed; may be repeated")
    result.add_argument(
        "--max-hours", type=float, default=math.inf, help="stop after this time; the same command resumes"
    )
    result.add_argument(
        "--jobs", type=whole_number(1), help="cells at a time (as many as the GPUs allow, or 1 on the CPU)"
    )
    add_options(result, "cell")
    modes = result.add_mutually_exclusive_group()
    modes.add_argument(
        "--dry-run",
        action="store_true",
        help="list the stages, their prerequisites and their cost, without running; needs no data",
    )
    modes.add_argument(
        "--list", action="store_true", help="print the cells: hash, state, hash of the cell needed, name"
    )
    modes.add_argument("--cell", metavar="HASH", help="run only this cell and write no table, for your own scheduler")
    return result


def main(arguments: Sequence[str]) -> None:
    """Run a study.

    Raises:
        CommandLineError: if an option, the study or one of its files is wrong.
        UserError: if data or weights are missing.
        KeyboardInterrupt: after Ctrl-C, when the running stages have written their checkpoints.
        SystemExit: with code 1 if a cell failed; the others have run, and the table lists it.
    """
    options = parser().parse_args(list(arguments))
    if options.launcher == "submitit" and options.max_hours != math.inf:
        raise CommandLineError("--max-hours works with the local launcher only; limit a job with --time")
    if not options.max_hours > 0:
        raise CommandLineError(f"--max-hours should be more than 0, found {options.max_hours}")
    resources = allocation(options, len(visible_accelerators()))
    store = Store(options.runs / "cells")
    with wrong_command_line():
        study = Study.read(options.file, options.scale)
        cells = list(study.only(options.only, options.seed).cells.values())
    made: dict[str, Cell] = {}
    for cell in cells:  # other seeds have the same keys
        if made.setdefault(cell.made, cell) is cell:
            check_keys(cell.config, f"{options.file}, {cell.title}")
    for label in study.left_out:
        print(f"column {label} is left out: its data set was not found in DATA_ROOT")
    if options.dry_run or options.list:
        print(plan(store, cells) if options.dry_run else listing(store, cells))
        if options.dry_run and not (options.only or options.seed) and (cost := stated_text(options.file)):
            print(f"the study itself states: {cost}")
        return
    if options.cell is not None:
        cells = [chosen(store, cells, options.cell)]
    check_complete(store, cells)
    check_writable(options.runs, "--runs")
    check_same_data(store, cells)
    check_cells(options.file, {cell.made: cell for cell in cells if not store.done(cell)}.values())
    if options.launcher == "submitit":
        from src.studies.run.submission import submit, summary  # from an optional extra

        print(summary(submit(store, cells, resources, study.name, options.jobs), len(cells)))
        print(f"when they are done, this writes the table: {study.command} --runs {options.runs}")
        return
    jobs = options.jobs or default_jobs(resources.gpus)
    runner = Runner(store, cells, jobs, 3600 * options.max_hours, gpus=resources.gpus)
    try:
        failed = runner.run()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume")
        raise
    if options.cell is not None:
        if failed:
            raise SystemExit(1)
        return
    folder = options.runs / study.name
    from src.studies.report.files import write_results  # these import torch, which planning does not need
    from src.studies.results.results import Results

    print(f"\n{write_results(Results(study, store), folder)}")
    print(f"{folder / 'report.html'}  (the table as .md, .tex, .csv, .json, .svg and .png in the same folder)")
    if runner.out_of_time:
        print(f"stopped after {options.max_hours:g} hours; run the same command again to resume")
    if failed:
        print(f"{len(failed)} of {len(cells)} stages failed or need one that did; run the command again to retry")
        raise SystemExit(1)


def check_cells(file: Path, cells: Iterable[Cell]) -> None:
    """Refuse a study of which a cell would fail by the sides of its images, before any of them runs.

    Raises:
        CommandLineError: Naming the file, the cell and the key.
    """
    for cell in cells:
        try:
            check_sizes(completed(cell.config))
        except UserError as error:
            raise CommandLineError(f"{file}, {cell.title}: {error}") from error
