"""A study's results, put together from the files of its cells alone."""

from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.evaluation.verdict import POINTS, Verdict, judge
from src.studies.cells import Cell, Spot, Store
from src.studies.study import Column, Study


@dataclass(frozen=True)
class Entry:
    """One place of the table: a value per seed, in points of a hundred."""

    values: list[float]
    missing: int  # seeds that have no value yet
    moved_by_seed: bool  # whether anything in it is drawn at random

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (n − 1), where there are two at least."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass
class Results:
    """What a study has found so far."""

    study: Study
    store: Store
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)  # by row and column

    def __post_init__(self) -> None:
        for row in self.study.rows.values():
            for column in self.study.columns.values():
                random = column.seeded or row.pretrain is not None
                cells = [self.cell(row.name, column.name, seed) for seed in self.study.seeds]
                kept = cells if random else cells[:1]
                found = [value for cell in kept if (value := self._value(cell, column)) is not None]
                self.entries[row.name, column.name] = Entry(found, len(kept) - len(found), random)

    def cell(self, row: str, column: str, seed: int) -> Cell:
        """The cell behind one value."""
        return self.study.cells[self.study.spots[Spot(row, column, seed)]]

    def _value(self, cell: Cell, column: Column) -> float | None:
        metrics = self.store.metrics(cell)
        if metrics is None:
            return None
        value: Any = metrics["values"]
        for part in column.metric.split("/"):
            if not isinstance(value, dict) or part not in value:
                raise ValueError(
                    f"{self.study.path}, column {column.name}: no metric {column.metric!r} in {cell.title}"
                )
            value = value[part]
        return None if value is None else POINTS * float(value)

    def difference(self, row: str, column: str) -> float | None:
        """Mean over the seeds that both have of the row minus the baseline, as the verdict takes it."""
        if row == self.study.baseline:
            return None
        measured = self.study.columns[column]
        pairs = [
            [self._value(self.cell(name, column, seed), measured) for name in (row, self.study.baseline)]
            for seed in self.study.seeds
        ]
        found = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
        return fmean(found) if found else None

    @cached_property
    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """By row and column, where both the row and the baseline have all that a verdict needs."""
        found = {}
        for row in self.study.rows:
            for column in self.study.columns.values():
                if row == self.study.baseline or column.metric != "miou":
                    continue
                pairs = [
                    (self.cell(self.study.baseline, column.name, seed), self.cell(row, column.name, seed))
                    for seed in self.study.seeds
                ]
                pairs = [pair for pair in pairs if all(self.store.done(cell) for cell in pair)]
                if pairs:
                    found[row, column.name] = self._judged(pairs)
        return found

    def _judged(self, pairs: list[tuple[Cell, Cell]]) -> Verdict:
        before = [self._matrices(cell) for cell, _ in pairs]
        after = [self._matrices(cell) for _, cell in pairs]
        for other in (*before, *after):
            if other[1] != before[0][1]:
                raise ValueError(f"{self.study.path}: rows were not evaluated on the same images; cannot compare them")
        metrics = self.store.metrics(pairs[0][0]) or {}
        return judge([item[0] for item in before], [item[0] for item in after], metrics["values"]["class_names"])

    def _matrices(self, cell: Cell) -> tuple[NDArray[np.int64], list[str]]:
        with np.load(self.store.folder(cell) / "confusion.npz") as file:
            return file["matrices"], file["names"].tolist()

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        """What the cells that failed left of their logs."""
        found = [self.store.failure(cell) for cell in self.study.cells.values()]
        return [failure for failure in found if failure is not None]

    @cached_property
    def provenances(self) -> list[dict[str, Any]]:
        """When, where and how the finished cells were computed."""
        found = [self.store.provenance(cell) for cell in self.study.cells.values()]
        return [provenance for provenance in found if provenance is not None]

    @property
    def complete(self) -> bool:
        """Whether every cell has its numbers."""
        return not any(entry.missing for entry in self.entries.values())
