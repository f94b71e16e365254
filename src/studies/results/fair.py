"""Verdicts of a study that measures one data set by two probes (docs/method.md, section 11).

A column with the converged linear probe and one with whitened nearest neighbours, of the same images, are judged
together: by argmax mIoU alone, a change of metric would pass for a gain, and thin classes would be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from src.config.composition import lookup
from src.core.archives import read_arrays
from src.core.errors import UserError
from src.core.json_files import damaged
from src.evaluation.fair_verdict import FairVerdict, compare_scores
from src.evaluation.paired_interval import ImageStatistic, MeanIoU
from src.evaluation.probe_scores import ProbeScores
from src.evaluation.significance import Interval
from src.studies.plan.cells import Cell, Store, finished
from src.studies.plan.study import Column, Study


class FairRow(NamedTuple):
    """A row against the baseline under both probes of one data set.

    Attributes:
        row: Name of the row.
        linear: Column with the converged linear probe.
        neighbours: Column with whitened nearest neighbours.
        changes: Change of each score with its interval, of `cross_entropy` in per cent, of the others in points.
        verdict: By the rule of section 11.
        images: Number of evaluation images.
    """

    row: str
    linear: Column
    neighbours: Column
    changes: dict[str, Interval]
    verdict: FairVerdict
    images: int

    @property
    def places(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The two places of the table that are judged together, each a row and a column."""
        return (self.row, self.linear.name), (self.row, self.neighbours.name)


def fair_rows(study: Study, store: Store) -> list[FairRow]:
    """Every row but the baseline, in every pair of columns, as far as their cells are finished.

    Raises:
        UserError: If rows were not evaluated on the same images.
    """
    return [
        found
        for linear, neighbours in _pairs(study)
        for row in study.rows
        if row != study.baseline
        and study.measures(row, linear.name)
        and study.measures(row, neighbours.name)
        and (found := _judged(study, store, row, linear, neighbours)) is not None
    ]


def probe_of(cell: Cell) -> Literal["linear", "neighbours"] | None:
    """Which of the two probes an evaluation fits, if any."""
    kind = str(lookup(cell.config, "model.class_path")).rpartition(".")[2]
    if kind == "ConvergedLinearProbe":
        return "linear"
    whitened = lookup(cell.config, "model.init_args.whitened") is True
    return "neighbours" if kind == "NearestNeighbours" and whitened else None


def _pairs(study: Study) -> Iterator[tuple[Column, Column]]:
    """Columns of the two probes on the same data, as the baseline is evaluated."""
    columns = [column for column in study.columns.values() if column.metric == "miou"]
    cells = {column.name: study.cell(study.baseline, column.name, study.seeds[0]) for column in columns}
    for linear in columns:
        for neighbours in columns:
            one, two = cells[linear.name], cells[neighbours.name]
            if (probe_of(one), probe_of(two)) == ("linear", "neighbours") and one.config["data"] == two.config["data"]:
                yield linear, neighbours
                break


def _judged(study: Study, store: Store, row: str, linear: Column, neighbours: Column) -> FairRow | None:
    def files(name: str, seed: int) -> _Files | None:
        one, two = (study.cell(name, column.name, seed) for column in (linear, neighbours))
        if (probe_of(one), probe_of(two)) != ("linear", "neighbours"):
            return None
        return _files(store.folder(one), store.folder(two))

    pairs = [(files(study.baseline, seed), files(row, seed)) for seed in study.seeds]
    whole = [(before, after) for before, after in pairs if before is not None and after is not None]
    # the probes draw nothing at random: a row without pre-training is the same at every seed
    after = tuple(dict.fromkeys(adapted for _, adapted in whole))
    if not after:
        return None
    averaged = _averaged(study, row, linear)
    cheap = None if averaged is None else _files(store.folder(averaged), None)
    found = _compared(whole[0][0], after, cheap, study.rows[row].pretrain is not None)
    return None if found is None else FairRow(row, linear, neighbours, *found)


def _averaged(study: Study, row: str, linear: Column) -> Cell | None:
    """The frozen backbone averaged over flips and scales under the linear probe, unless `row` is that."""
    for name in study.rows:
        if not study.measures(name, linear.name):
            continue
        cell = study.cell(name, linear.name, study.seeds[0])
        if cell.needs is None and lookup(cell.config, "model.init_args.averaged") is True:
            return None if name == row else cell
    return None


class _Files(NamedTuple):
    """Results of one row and seed; times are those of the files, so that a changed one is read again."""

    probe: Path
    probe_time: int
    confusion: Path | None
    confusion_time: int


def _files(linear: Path, neighbours: Path | None) -> _Files | None:
    """Files of two finished cells, or None."""
    wanted = [linear / "probe.npz"] + ([] if neighbours is None else [neighbours / "confusion.npz"])
    if not all(finished(path.parent) and path.is_file() for path in wanted):
        return None
    times = [path.stat().st_mtime_ns for path in wanted]
    return _Files(wanted[0], times[0], wanted[1] if neighbours is not None else None, times[-1])


@lru_cache(maxsize=256)  # asked for after each cell of a running study, and takes a second
def _compared(
    before: _Files, after: tuple[_Files, ...], averaged: _Files | None, random: bool
) -> tuple[dict[str, Interval], FairVerdict, int] | None:
    baseline = _scores(before)
    rows = [_scores(item) for item in after]
    whole = [row for row in rows if row is not None]
    if baseline is None or len(whole) < len(rows):
        return None
    cheap = None if averaged is None else _scores(averaged)
    for found, path in zip([*whole, *filter(None, [cheap])], [*after, *filter(None, [averaged])], strict=False):
        if found.names != baseline.names:
            raise UserError(
                f"{path.probe.parent} was not evaluated on the same images as {before.probe.parent}; the rows cannot "
                "be compared"
            )
    statistics = [row.statistics for row in whole]
    averaging = None if cheap is None else cheap.statistics["miou"]
    changes, verdict = compare_scores(baseline.statistics, statistics, averaging, random)
    return changes, verdict, len(baseline.names)


class _Scores(NamedTuple):
    names: list[str]
    statistics: dict[str, ImageStatistic]


def _scores(files: _Files) -> _Scores | None:
    """The scores in a row's files; None if one of them is damaged, which is told once."""
    try:
        probe = ProbeScores.load(files.probe)
        statistics = probe.statistics()
    except (UserError, KeyError) as error:
        damaged(files.probe, str(error).removeprefix(f"{files.probe}: "))
        return None
    if files.confusion is not None:
        try:
            stored = read_arrays(files.confusion)
            matrices, names = stored["matrices"], stored["names"].tolist()
        except (UserError, KeyError) as error:
            damaged(files.confusion, str(error).removeprefix(f"{files.confusion}: "))
            return None
        if names != probe.names:
            raise UserError(
                f"{files.confusion.parent} was not evaluated on the same images as {files.probe.parent}; the two "
                "probes cannot be judged together"
            )
        statistics["whitened_knn"] = MeanIoU(matrices)
    return _Scores(probe.names, statistics)
