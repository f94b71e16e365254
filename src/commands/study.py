"""``python -m src study FILE``: run what is missing of a study, then write its table and report."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from src.commands.options import OptionParser
from src.core.errors import CommandLineError
from src.core.process_lock import EXPIRY, abandoned
from src.studies.plan.cells import Cell, Store
from src.studies.plan.study import Study
from src.studies.results.results import Results
from src.studies.run.estimate import Measured, clock
from src.studies.run.runner import Runner, default_jobs


def parser() -> argparse.ArgumentParser:
    """The command's options."""
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
        "--max-hours", "--max_hours", type=float, default=math.inf, help="stop then; the same command resumes"
    )
    result.add_argument("--jobs", type=int, help="cells at a time (one per GPU, or 1 on the CPU)")
    result.add_argument("--dry-run", "--dry_run", action="store_true", help="list what would run, with an estimate")
    return result


def main(arguments: Sequence[str]) -> None:
    """Runs a study.

    Raises:
        CommandLineError: if an option is wrong.
        FileNotFoundError, ValueError: if the study or one of its files is.
        KeyboardInterrupt: after Ctrl-C, when the running stages have written their checkpoints.
        SystemExit: with code 1 if a cell failed; the others have run, and the table says which.
    """
    options = parser().parse_args(list(arguments))
    if options.jobs is not None and options.jobs < 1:
        raise CommandLineError(f"--jobs should be at least 1, found {options.jobs}")
    if not options.max_hours > 0:
        raise CommandLineError(f"--max-hours should be more than 0, found {options.max_hours}")
    study = Study.read(options.file, options.scale)
    for label in study.left_out:
        print(f"column {label} is left out: its data set is not there (DATA_ROOT)")
    store = Store(options.runs / "cells")
    cells = list(study.only(options.only, options.seed).cells.values())
    if options.dry_run:
        print(plan(store, cells))
        return
    runner = Runner(store, cells, options.jobs or default_jobs(), 3600 * options.max_hours)
    try:
        failed = runner.run()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume")
        raise
    folder = options.runs / study.name
    from src.studies.report.files import write_results  # torch comes with its pictures, which a plan does not wait for

    print(f"\n{write_results(Results(study, store), folder)}")
    print(f"{folder / 'report.html'}  (the table as .md, .tex, .csv, .json, .svg and .png in the same folder)")
    if runner.out_of_time:
        print(f"stopped after {options.max_hours:g} hours; run the same command again to resume")
    if failed:
        print(f"{len(failed)} of {len(cells)} stages failed or need one that did; run the command again to retry")
        raise SystemExit(1)


def plan(store: Store, cells: Sequence[Cell]) -> str:
    """Describe what would run, and its cost as far as similar cells have been measured."""
    measured = Measured.of(store, cells)
    lines, seconds, unknown = [], 0.0, 0
    for number, cell in enumerate(cells, start=1):
        needed = measured.seconds(cell)
        if store.done(cell):
            state = "done"
        else:
            lock = store.folder(cell) / "lock"
            running = lock.exists() and not abandoned(lock, EXPIRY)
            state = "another process runs it" if running else "would run"
            seconds += needed or 0.0
            unknown += needed is None
            state += f", about {clock(needed)}" if needed is not None else ""
        lines.append(f"[{number}/{len(cells)}] {cell.identity} {cell.title}: {state}")
    missing = [cell for cell in cells if not store.done(cell)]
    total = f"{len(missing)} of {len(cells)} stages would run, about {clock(seconds)} one after another"
    if unknown:
        total += f" and {unknown} stages of a kind that has not been measured here"
    if measured.by_kind:
        memory = max(peak for peaks in measured.memory.values() for peak in peaks)
        disk = sum(fmean(measured.disk[cell.stage]) for cell in missing if measured.disk.get(cell.stage))
        total += f"; at most {memory / 2**30:.1f} GiB of memory each, {disk / 2**20:.0f} MiB of disk"
    return "\n".join([*lines, total])
