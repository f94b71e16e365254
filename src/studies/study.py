"""A study file: what its rows, columns and seeds mean, and the cells they make.

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
      global: {label: Global only, pretrain: {set: {model.init_args.objectives.local.init_args.weight: 0}}}
    columns:
      linear: {label: Linear decoder, data: camvid, config: experiments/segment/camvid/linear.yaml, metric: miou}
      knn: {label: 30-NN, data: camvid, config: experiments/segment/camvid/knn.yaml, seeded: false}

A row may also `set` keys of both stages, name another `pretrain.config`, or `evaluate.set`. `seeded: false` says that
an evaluation draws nothing at random, so that only the pre-training's seed can move it. Files are looked up from the
folder that the command is run in.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from src.spelling import nearest
from src.studies.cells import Cell, Spot, config_digest
from src.studies.config import Config, override, read


@dataclass(frozen=True)
class Row:
    """One method: how to pre-train, or not at all."""

    name: str
    label: str
    pretrain: Config | None = field(default_factory=dict)  # `config` and `set`; None means no pre-training
    evaluate: Config = field(default_factory=dict)  # `set`
    both: Config = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One measurement: a data set, how to evaluate on it, and the number to show."""

    name: str
    label: str
    data: str
    config: str
    metric: str = "miou"
    seeded: bool = True
    changes: Config = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Rows × columns × seeds, and the cells that fill them."""

    path: Path
    name: str
    title: str
    seeds: tuple[int, ...]
    rows: dict[str, Row]
    columns: dict[str, Column]
    baseline: str
    pretrain: Config
    evaluate: Config

    @classmethod
    def read(cls, path: Path) -> "Study":
        """The study in a yaml file.

        Raises:
            FileNotFoundError: if the file is missing.
            ValueError: naming the file, the key and its nearest valid spelling.
        """
        content = read(path)
        where = str(path)
        allow(where, content, ("name", "title", "seeds", "baseline", "pretrain", "evaluate", "rows", "columns"))
        for key in ("seeds", "rows", "columns"):
            if not content.get(key):
                raise ValueError(f"{where}: a study needs `{key}`, found none")
        seeds = content["seeds"]
        if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or len(set(seeds)) < len(seeds):
            raise ValueError(f"{where}: `seeds` should be a list of different whole numbers, found {seeds!r}")
        rows = {name: read_row(f"{where}, row {name}", name, value or {}) for name, value in content["rows"].items()}
        columns = {
            name: read_column(f"{where}, column {name}", name, value or {})
            for name, value in content["columns"].items()
        }
        baseline = str(content.get("baseline") or next(iter(rows)))
        if baseline not in rows:
            raise ValueError(f"{where}: baseline {baseline!r} is no row{nearest(baseline, rows)}")
        name = str(content.get("name", path.stem))
        stages = {stage: content.get(stage) or {} for stage in ("pretrain", "evaluate")}
        allow(f"{where}, pretrain", stages["pretrain"], ("config", "set"))
        allow(f"{where}, evaluate", stages["evaluate"], ("set",))
        return cls(path, name, str(content.get("title", name)), tuple(seeds), rows, columns, baseline, **stages)

    @cached_property
    def spots(self) -> dict[Spot, str]:
        """For each (row, column, seed) the cell that measures it."""
        return {spot: cell.identity for spot, cell in self._evaluations}

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
                pretraining = self._pretraining(row, column, read_file)
                config = override(read_file(Path(column.config)), self.evaluate.get("set") or {})
                config = override(override(override(config, column.changes), row.both), row.evaluate.get("set") or {})
                made = config_digest(config)
                trained = config_digest(pretraining) if pretraining is not None else ""
                for seed in self.seeds:
                    needs = None
                    if pretraining is not None:
                        needs = Cell("pretrain", f"{row.label} on {column.data}", seed, pretraining, trained)
                    probe_seed = seed if column.seeded else 0
                    yield (
                        Spot(row.name, column.name, seed),
                        Cell("evaluate", f"{row.label}, {column.label}", probe_seed, config, made, needs),
                    )

    def _pretraining(self, row: Row, column: Column, read_file: Callable[[Path], Config]) -> Config | None:
        if row.pretrain is None:
            return None
        file = row.pretrain.get("config") or self.pretrain.get("config")
        if not file:
            raise ValueError(f"{self.path}, row {row.name}: needs `pretrain.config`, its own or the study's")
        config = read_file(Path(str(file).format(data=column.data)))
        config = override(config, self.pretrain.get("set") or {})
        return override(override(config, row.both), row.pretrain.get("set") or {})

    def only(self, names: Collection[str]) -> "Study":
        """The part of the study with these rows and columns; names of one kind alone leave the other whole.

        Raises:
            ValueError: if a name is neither a row nor a column.
        """
        for name in names:
            if name not in self.rows and name not in self.columns:
                known = [*self.rows, *self.columns]
                raise ValueError(f"{self.path}: no row or column {name!r}{nearest(name, known)}")
        rows = {name: row for name, row in self.rows.items() if name in names} or self.rows
        columns = {name: column for name, column in self.columns.items() if name in names} or self.columns
        baseline = self.baseline if self.baseline in rows else next(iter(rows))
        return Study(
            self.path, self.name, self.title, self.seeds, rows, columns, baseline, self.pretrain, self.evaluate
        )


def read_row(where: str, name: str, content: Config) -> Row:
    """A row from its mapping in the yaml."""
    allow(where, content, ("label", "pretrain", "evaluate", "set"))
    pretrain = content.get("pretrain", {})
    if pretrain is not None:
        allow(f"{where}, pretrain", pretrain, ("config", "set"))
    evaluate = content.get("evaluate") or {}
    allow(f"{where}, evaluate", evaluate, ("set",))
    return Row(name, str(content.get("label", name)), pretrain, evaluate, content.get("set") or {})


def read_column(where: str, name: str, content: Config) -> Column:
    """A column from its mapping in the yaml."""
    allow(where, content, ("label", "data", "config", "metric", "seeded", "set"))
    for key in ("data", "config"):
        if not isinstance(content.get(key), str):
            raise ValueError(f"{where}: needs `{key}`, found {content.get(key)!r}")
    return Column(
        name=name,
        label=str(content.get("label", name)),
        data=content["data"],
        config=content["config"].format(data=content["data"]),
        metric=content.get("metric", "miou"),
        seeded=bool(content.get("seeded", True)),
        changes=content.get("set") or {},
    )


def allow(where: str, content: Any, keys: Collection[str]) -> None:
    """Refuses anything but a mapping of known keys."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: should be a mapping with {', '.join(keys)}, found {content!r}")
    for key in content:
        if key not in keys:
            raise ValueError(f"{where}: no key `{key}`{nearest(str(key), keys)}")
