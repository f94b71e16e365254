"""Remaining time of a study, estimated from the stages that have finished."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from src.core.json_files import NUMBER, read_json
from src.studies.plan.cells import Cell, Store, planned_steps

PROGRESS = dict.fromkeys(("done", "total", "first", "began", "at"), NUMBER)  # of a stage's progress.json


@dataclass
class Measured:
    """Durations of finished cells, by what they do and by their stage."""

    by_kind: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds
    by_stage: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    by_step: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds a step
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # bytes, by stage
    disk: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, store: Store, cells: Iterable[Cell]) -> "Measured":
        """Collect the durations of a study's finished cells."""
        result = cls()
        for cell in cells:
            provenance = store.provenance(cell)
            if provenance is not None and store.done(cell):
                result.add(cell, float(provenance["seconds"]))
                result.memory[cell.stage].append(float(provenance["peak_memory_bytes"]))
                result.disk[cell.stage].append(float(provenance["disk_bytes"]))
        return result

    def add(self, cell: Cell, seconds: float) -> None:
        """Takes one more finished cell into account."""
        self.by_kind[cell.made].append(seconds)
        self.by_stage[cell.stage].append(seconds)
        if steps := planned_steps(cell.config):
            self.by_step[cell.stage].append(seconds / steps)

    def seconds(self, cell: Cell) -> float | None:
        """Estimate a cell's seconds from similar cells, else from its stage's steps, else from its stage; else None."""
        if times := self.by_kind.get(cell.made):
            return fmean(times)
        steps, paces = planned_steps(cell.config), self.by_step.get(cell.stage)
        if steps and paces:
            return steps * fmean(paces)
        times = self.by_stage.get(cell.stage)
        return fmean(times) if times else None


def first_step(folder: Path) -> int | None:
    """The step at which the process in a cell's folder has begun; None until it says so."""
    note = read_json(folder / "progress.json", PROGRESS)
    return None if note is None else int(note["first"])


def running(folder: Path, started: float, usual: float | None) -> tuple[float | None, float | None]:
    """Finished share of a running cell, 0 to 1, and its seconds left; None where that is not known yet.

    Args:
        folder: its run folder.
        started: `time.time()` at its start.
        usual: what cells like it took, in seconds.
    """
    note = read_json(folder / "progress.json", PROGRESS)
    share = note["done"] / note["total"] if note and note["total"] else None
    spent = time.time() - started
    if usual is not None and spent < usual:
        return share, usual - spent
    if note is None or share is None or note["done"] <= note["first"]:
        return share, None
    pace = (note["at"] - note["began"]) / (note["done"] - note["first"])
    return share, max(1.0, pace * (note["total"] - note["done"]) - (time.time() - note["at"]))


def rest(measured: Measured, waiting: Iterable[Cell], running: Iterable[float | None]) -> float | None:
    """Seconds of work left in all, where what is not known counts as the mean of what is; None before any is known."""
    parts = [*(measured.seconds(cell) for cell in waiting), *running]
    known = [part for part in parts if part is not None]
    return fmean(known) * len(parts) if known else None


def clock(seconds: float) -> str:
    """Format seconds: `40 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
