"""A study's results, put together from the files of its cells alone."""

from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from src.config.composition import Config
from src.core.errors import UserError
from src.core.json_files import read_json
from src.core.printable import printable
from src.evaluation.significance import Verdict
from src.studies.plan.cells import Cell, Store, finished
from src.studies.plan.study import Column, Study
from src.studies.results.fair import FairRow, fair_rows
from src.studies.results.quantity import quantity
from src.studies.results.verdicts import judge_folders, per_image


@dataclass(frozen=True)
class Entry:
    """One place of the table: a value per seed, in the unit of its column."""

    values: list[float]
    missing: int  # seeds without a value
    moved_by_seed: bool  # whether anything in it is drawn at random
    digits: int = 1  # after the point
    applies: bool = True  # False where there is nothing to measure: what no pre-training costs, or by `row.columns`

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
    """Results of a study so far."""

    study: Study
    store: Store
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)  # by row and column
    _read: dict[str, Config] = field(default_factory=dict)  # metrics by cell, each file read once

    def __post_init__(self) -> None:
        for row in self.study.rows.values():
            for column in self.study.columns.values():
                of = quantity(column.metric)
                unknown = of.kept_in != "scores" and row.pretrain is None
                if unknown or not self.study.measures(row.name, column.name):
                    self.entries[row.name, column.name] = Entry([], 0, False, of.digits, applies=False)
                    continue
                random = column.seeded or row.pretrain is not None
                cells = [self.cell(row.name, column.name, seed) for seed in self.study.seeds]
                kept = cells if random else cells[:1]
                found = [value for cell in kept if (value := self._value(cell, column)) is not None]
                self.entries[row.name, column.name] = Entry(found, len(kept) - len(found), random, of.digits)

    def cell(self, row: str, column: str, seed: int) -> Cell:
        """The cell behind one value."""
        return self.study.cell(row, column, seed)

    def _value(self, cell: Cell, column: Column) -> float | None:
        of = quantity(column.metric)
        source = cell if of.kept_in == "scores" else cell.needs
        if source is None or (metrics := self._metrics(source)) is None:
            return None
        value: Any = metrics["values"] if of.kept_in != "provenance" else self.store.provenance(source)
        for part in of.path.split("/"):
            if not isinstance(value, dict) or part not in value:
                raise UserError(
                    f"{self.study.path}, column {column.name}: no metric {column.metric!r} in {source.title}"
                )
            value = value[part]
        return None if value is None else of.factor * float(value)

    def _metrics(self, cell: Cell) -> Config | None:
        if cell.identity not in self._read:
            found = self.store.metrics(cell)
            if found is None:
                return None
            self._read[cell.identity] = found
        return self._read[cell.identity]

    def paper(self, row: str, column: str) -> float | None:
        """The published value, where one is known."""
        return self.study.columns[column].paper.get(row)

    @property
    def published(self) -> list[str]:
        """The columns with published values to compare with."""
        return [name for name, column in self.study.columns.items() if column.paper]

    @cached_property
    def best(self) -> set[tuple[str, str]]:
        """By row and column, the entries whose mean is above every other row's with certainty."""
        found = set()
        for column in self.study.columns.values():
            means = {row: mean for row in self.study.rows if (mean := self.entries[row, column.name].mean) is not None}
            if not self.study.judged or column.metric != "miou" or len(means) < 2:
                continue
            first, *others = sorted(means, key=lambda row: -means[row])
            if all(self._above(first, other, column) for other in others):
                found.add((first, column.name))
        return found

    def _above(self, row: str, other: str, column: Column) -> bool:
        verdict = self._verdict(row, other, column)
        return verdict is not None and verdict.word == "helped"

    def difference(self, row: str, column: str) -> float | None:
        """Mean over the seeds that both have of the row minus the baseline, as the verdict takes it."""
        if row == self.study.baseline or not self.study.measures(row, column):
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
                if row == self.study.baseline or column.metric != "miou" or not self.study.judged:
                    continue
                if not self.study.measures(row, column.name):
                    continue
                verdict = self._verdict(row, self.study.baseline, column)
                if verdict is not None:
                    found[row, column.name] = verdict
        return found

    @cached_property
    def fair(self) -> list[FairRow]:
        """Rows judged by the converged linear probe and whitened nearest neighbours together, where both were run."""
        return fair_rows(self.study, self.store) if self.study.judged else []

    @property
    def other_verdicts(self) -> dict[tuple[str, str], Verdict]:
        """Those of `verdicts` that are not part of a verdict by two probes."""
        covered = {place for item in self.fair for place in item.places}
        return {place: verdict for place, verdict in self.verdicts.items() if place not in covered}

    def _verdict(self, row: str, other: str, column: Column) -> Verdict | None:
        """Of `row` over `other`, on the seeds that both have."""
        pairs = [(self.cell(other, column.name, seed), self.cell(row, column.name, seed)) for seed in self.study.seeds]
        folders = [(self.store.folder(one), self.store.folder(two)) for one, two in pairs]
        whole = [pair for pair in folders if all(finished(path) and per_image(path) is not None for path in pair)]
        return judge_folders(whole) if whole else None

    @cached_property
    def notes(self) -> list[str]:
        """Finished pre-trainings that a guard stopped early, with the reason."""
        found = []
        for cell in self.study.cells.values():
            guards = read_json(self.store.folder(cell) / "guards.json") if self.store.done(cell) else None
            if guards and guards.get("stopped"):
                found.append(printable(f"{cell.title}: {guards['stopped']}"))
        return found

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        """Ends of the logs of cells that failed; control characters in them are escaped."""
        found = [self.store.failure(cell) for cell in self.study.cells.values()]
        return [
            {
                **failure,
                **{key: printable(failure[key]) for key in ("title", "reason")},
                "log": [printable(str(line)) for line in failure["log"]],
            }
            for failure in found
            if failure is not None
        ]

    @cached_property
    def provenances(self) -> list[dict[str, Any]]:
        """Provenance of the finished cells."""
        found = [self.store.provenance(cell) for cell in self.study.cells.values()]
        return [
            {key: printable(value) if isinstance(value, str) else value for key, value in provenance.items()}
            for provenance in found
            if provenance is not None
        ]

    @property
    def complete(self) -> bool:
        """True if every cell has its numbers."""
        return not any(entry.missing for entry in self.entries.values())
