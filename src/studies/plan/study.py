"""Study files: rows, columns and seeds, and the cells they define.

    name: camvid                                  # the folder under runs/
    title: Frozen against adapted on CamVid
    seeds: [0, 1, 2]
    baseline: frozen                              # the row that the others are compared with; the first by default
    pretrain:
      config: experiments/pretrain/{data}/glare.yaml   # {data} is the column's
      set: {trainer.max_steps: 440}               # dotted overrides of every pre-training
    evaluate:
      set: {trainer.max_steps: 300}               # … and of every evaluation
    rows:
      frozen: {label: Frozen, pretrain: null}     # null: no pre-training
      glare: {label: GLARE}
      dino: {label: DINO, pretrain: {with: experiments/methods/dino.yaml}}
      global: {label: Global only, pretrain: {set: {model.init_args.objectives.local.init_args.weight: 0}}}
    columns:
      linear: {label: Linear decoder, data: camvid, config: experiments/segment/camvid/linear.yaml, metric: miou}
      knn:
        label: Dense 30-NN
        data: camvid
        config: experiments/segment/{data}/linear.yaml
        with: experiments/heads/small/neighbours.yaml
        seeded: false

`adapted_on: camvid` in a column whose `data` is another set measures forgetting: the rows are pre-trained on CamVid,
and the column says what that cost elsewhere. `axis: unlabelled images` with a row's `at: 30` makes the report draw the
columns as curves over the rows.

Wherever a study may `set` keys it may also merge files over the configuration first, `with` a path or a list of paths.
A row may also `set` keys of both stages, name another `pretrain.config` or `evaluate.config`, be measured in some
`columns: [linear, knn]` only, and have a `note`, which is shown below the table. `seeded: false` says that an
evaluation draws nothing at random, so that only the pre-training's seed can move it. A column's `metric` is a score of
the evaluation or one of `src.studies.results.quantity`; `optional: true` leaves the column out where its data set is
not there; `paper: {glare: 41.6}` holds published values. `judged: false` gives no verdicts, for smoke tests.

The same study at several sizes: `scales: {mini: …, paper: …}` holds, under each name, any of the keys above. Those of
the chosen scale are merged over the others, mapping by mapping, and the folder is called `<name>-<scale>`. Studies that
share their scales name a file of them instead: `scales: experiments/scales.yaml`.

Files are looked up from the folder that the command is run in, then from the installed package, except those of
`extends`, which makes a study of others as it does any configuration (`src.config.composition`).
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from src.config.composition import Config, laid_over
from src.config.hashing import digest
from src.config.nearest import nearest
from src.config.prerequisites import lacking
from src.config.right_command import check_command
from src.config.yaml_reader import read
from src.core.errors import MissingFile, UserError
from src.core.import_path import HOME
from src.core.names import path_part
from src.core.printable import printable
from src.studies.plan.cells import Cell, Spot, config_digest, planned_steps
from src.studies.plan.changes import CHANGES, changed
from src.studies.plan.rows_and_columns import Column, Row, allow, has_data, read_columns, read_rows
from src.studies.plan.stated_cost import stated_cost

__all__ = ["Column", "Row", "Study"]

KEYS = ("name", "title", "seeds", "baseline", "judged", "axis", "pretrain", "evaluate", "rows", "columns")


@dataclass(frozen=True)
class Study:
    """Rows × columns × seeds, with their cells."""

    path: Path
    name: str
    title: str
    seeds: tuple[int, ...]
    rows: dict[str, Row]
    columns: dict[str, Column]
    baseline: str
    pretrain: Config
    evaluate: Config
    scale: str | None = None
    judged: bool = True
    left_out: tuple[str, ...] = ()  # labels of optional columns whose data set is missing
    wanted: frozenset[tuple[str, str]] | None = None  # places (row, column) to keep; None for all
    axis: str = ""  # unit of the rows' `at`; empty if rows have no order

    @classmethod
    def read(cls, path: Path, scale: str | None = None) -> "Study":
        """Read a study from a yaml file, at one of its scales if it has any.

        Raises:
            MissingFile: if the file is missing.
            UserError: with the file, the key and its nearest valid spelling.
        """
        content = read(path)
        check_command(path, content, "study")
        content = scaled(path, content, scale)
        where = str(path) if scale is None else f"{path}, scale {scale}"
        allow(where, content, KEYS)
        for key in ("seeds", "rows", "columns"):
            if not content.get(key):
                raise UserError(f"{where}: a study needs `{key}`, found none")
        seeds = content["seeds"]
        if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or len(set(seeds)) < len(seeds):
            raise UserError(f"{where}: `seeds` should be a list of different whole numbers, found {seeds!r}")
        rows = read_rows(where, content["rows"])
        stated = read_columns(where, content["columns"], rows)
        columns = {name: column for name, column in stated.items() if not column.optional or has_data(column)}
        columns = columns or stated  # without any data, a plan names what all of them lack
        baseline = str(content.get("baseline") or next(iter(rows)))
        if baseline not in rows:
            raise UserError(f"{where}: baseline {baseline!r} is not a row{nearest(baseline, rows)}")
        for row in rows.values():
            for column in row.columns:
                if column not in stated:
                    raise UserError(f"{where}, row {row.name}: {column!r} is not a column{nearest(column, stated)}")
        if rows[baseline].columns:
            raise UserError(f"{where}, row {baseline}: the baseline is measured in every column; remove its `columns`")
        pretrain, evaluate = content.get("pretrain") or {}, content.get("evaluate") or {}
        allow(f"{where}, pretrain", pretrain, ("config", *CHANGES))
        allow(f"{where}, evaluate", evaluate, CHANGES)
        name = path_part(content.get("name", path.stem), f"{where}, name")
        full = name
        if scale is not None:
            full = path_part(f"{name}-{path_part(scale, f'{where}, scale')}", f"{where}, name with the scale")
        if full.casefold() == "cells":
            raise UserError(f"{where}, name: expected another name than {full!r}, the folder of all studies' cells")
        return cls(
            path=path,
            name=full,
            title=printable(str(content.get("title", name))),
            seeds=tuple(seeds),
            rows=rows,
            columns=columns,
            baseline=baseline,
            pretrain=pretrain,
            evaluate=evaluate,
            scale=scale,
            judged=bool(content.get("judged", True)),
            axis=str(content.get("axis", "")),
            left_out=tuple(column.label for name, column in stated.items() if name not in columns),
        )

    @property
    def command(self) -> str:
        """The command that runs it, which names no folder of this machine where the file comes with the package."""
        path = self.path.resolve()
        shown = path.relative_to(HOME) if path.is_relative_to(HOME) else self.path
        return f"python -m src study {shown.as_posix()}" + (f" --scale {self.scale}" if self.scale else "")

    @cached_property
    def spots(self) -> dict[Spot, str]:
        """The cell that measures each (row, column, seed)."""
        return {spot: cell.identity for spot, cell in self._evaluations}

    def measures(self, row: str, column: str) -> bool:
        """Return whether a row is measured in a column."""
        columns = self.rows[row].columns
        return (not columns or column in columns) and (self.wanted is None or (row, column) in self.wanted)

    def cells_of(self, row: str) -> list[Cell]:
        """The row's evaluations, column by column and seed by seed."""
        columns = [column for column in self.columns if self.measures(row, column)]
        return [self.cell(row, column, seed) for column in columns for seed in self.seeds]

    def cell(self, row: str, column: str, seed: int) -> Cell:
        """The cell behind one value of the table."""
        return self.cells[self.spots[Spot(row, column, seed)]]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell once, by its hash, each after the one it needs, seed by seed so that a first table comes early."""
        result: dict[str, Cell] = {}
        for _, cell in sorted(self._evaluations, key=lambda pair: self.seeds.index(pair[0].seed)):
            if cell.needs is not None:
                result.setdefault(cell.needs.identity, cell.needs)
            result.setdefault(cell.identity, cell)
        return result

    @cached_property
    def _evaluations(self) -> list[tuple[Spot, Cell]]:
        return list(self._plan(cache(read)))

    def _plan(self, read_file: Callable[[Path], Config]) -> Iterator[tuple[Spot, Cell]]:
        for row in self.rows.values():
            for column in self.columns.values():
                if not self.measures(row.name, column.name):
                    continue
                pretraining = self._pretraining(row, column, read_file)
                file = str(row.evaluate.get("config") or column.config).format(data=column.data)
                config = read_file(Path(file))
                for changes in (self.evaluate, column.changes, {"set": row.both}, row.evaluate):
                    config = changed(config, changes, column.data, read_file)
                evaluation = self._described(config, Path(file), read_file)
                training = None if pretraining is None else self._described(*pretraining, read_file)
                made_for = column.label if column.pretrain else column.pretrained_on
                for seed in self.seeds:
                    needs = None
                    if training is not None:
                        needs = Cell("pretrain", f"{row.label} on {made_for}", seed, **training)
                    probe_seed = seed if column.seeded else 0
                    yield (
                        Spot(row.name, column.name, seed),
                        Cell("evaluate", f"{row.label}, {column.label}", probe_seed, **evaluation, needs=needs),
                    )

    def _described(self, config: Config, file: Path, read_file: Callable[[Path], Config]) -> dict[str, Any]:
        """Arguments of a cell with this configuration, which comes from `file` with the study's changes."""
        lacks = tuple(lacking(config))
        try:
            made = config_digest(config)
        except MissingFile:  # of the data
            if not lacks:
                raise
            made = digest([config, lacks])
        cost, steps, usual = stated_cost(file), *(planned_steps(each) for each in (config, read_file(file)))
        return {
            "config": config,
            "made": made,
            "lacks": lacks,
            "stated": cost.scaled(steps / usual) if steps and usual else cost,
        }

    def _pretraining(self, row: Row, column: Column, read_file: Callable[[Path], Config]) -> tuple[Config, Path] | None:
        if row.pretrain is None:
            return None
        file = row.pretrain.get("config") or self.pretrain.get("config")
        if not file:
            raise UserError(f"{self.path}, row {row.name}: needs `pretrain.config`, its own or the study's")
        path = Path(str(file).format(data=column.pretrained_on))
        config = read_file(path)
        for changes in (self.pretrain, column.pretrain, {"set": row.both}, row.pretrain):
            config = changed(config, changes, column.pretrained_on, read_file)
        return config, path

    def only(self, names: Collection[str] = (), seeds: Collection[int] = ()) -> "Study":
        """The part of the study with these rows, columns and places, a place written as `row/column`, and these seeds.

        Names of rows alone leave the columns whole, and the other way round; places come in addition. No name, or no
        seed, leaves them all.

        Raises:
            UserError: if a name is neither a row nor a column nor a place, or a seed is not one of the study's.
        """
        if unknown := [seed for seed in seeds if seed not in self.seeds]:
            raise UserError(f"{self.path}: no seed {unknown[0]}, the study's are {', '.join(map(str, self.seeds))}")
        part = replace(self, seeds=tuple(seed for seed in self.seeds if seed in seeds)) if seeds else self
        return part._at(names) if names else part

    def _at(self, names: Collection[str]) -> "Study":
        for part in (part for name in names for part in name.split("/", 1)):
            if part not in self.rows and part not in self.columns:
                known = [*self.rows, *self.columns]
                raise UserError(f"{self.path}: no row or column {part!r}{nearest(part, known)}")
        wanted = set()
        for place in (name for name in names if "/" in name):
            row, column = place.split("/", 1)
            if row not in self.rows or column not in self.columns:
                raise UserError(f"{self.path}: expected ROW/COLUMN, found {place!r}")
            if not self.measures(row, column):
                found = ", ".join(self.rows[row].columns)
                raise UserError(f"{self.path}: row {row} is not measured in {column}, only in {found}")
            wanted.add((row, column))
        if single := [name for name in names if "/" not in name]:
            rows = [name for name in self.rows if name in single] or list(self.rows)
            columns = [name for name in self.columns if name in single] or list(self.columns)
            wanted |= {(row, column) for row in rows for column in columns if self.measures(row, column)}
        kept_rows = {name: row for name, row in self.rows.items() if any(name == r for r, _ in wanted)}
        kept_columns = {name: column for name, column in self.columns.items() if any(name == c for _, c in wanted)}
        baseline = self.baseline if self.baseline in kept_rows else next(iter(kept_rows))
        return replace(self, rows=kept_rows, columns=kept_columns, baseline=baseline, wanted=frozenset(wanted))


def scaled(path: Path, content: Config, scale: str | None) -> Config:
    """A study file's content at one of its scales.

    Raises:
        UserError: if the file has scales and none of them is named, or has none and one is.
    """
    scales = content.pop("scales", None) or {}
    if isinstance(scales, str):
        scales = read(Path(scales))
    if scale is None and not scales:
        return content
    if scale is None or scale not in scales:
        raise UserError(
            f"{path}: no scale {scale!r}, the file has no `scales`; leave --scale out"
            if not scales
            else f"{path}: expected --scale with one of {', '.join(scales)}, found {scale or 'none'}"
        )
    allow(f"{path}, scale {scale}", scales[scale], KEYS[1:])
    return laid_over(content, scales[scale])
