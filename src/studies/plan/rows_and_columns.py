"""The two axes of a table, as a study file states them: rows are methods, columns are measurements."""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.config.composition import Config, lookup
from src.config.nearest import nearest
from src.config.yaml_reader import read
from src.core.errors import UserError
from src.core.names import path_part
from src.core.printable import printable
from src.studies.plan.changes import CHANGES, changed, check_changes


@dataclass(frozen=True)
class Row:
    """One method: how to pre-train, or not at all.

    Attributes:
        note: Remark on the row, shown below the table.
        columns: Columns that the row is measured in; empty for all.
    """

    name: str
    label: str
    pretrain: Config | None = field(default_factory=dict)  # `config`, `with` and `set`; None means no pre-training
    evaluate: Config = field(default_factory=dict)  # `config`, `with` and `set`
    both: Config = field(default_factory=dict)
    at: float | None = None  # position of the row on the study's axis
    note: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One measurement: a data set, how to evaluate on it, and the number to show.

    Attributes:
        changes: Changes of the evaluation, `with` and `set`.
        pretrain: Changes of the pre-training, where a column is also another start (`table-inits`).
        paper: Published values by row, in the unit of the column.
        optional: Leave the column out if its data set is missing.
        adapted_on: The data set that the rows are pre-trained on; `data` itself if empty.
    """

    name: str
    label: str
    data: str
    config: str
    metric: str = "miou"
    seeded: bool = True
    changes: Config = field(default_factory=dict)
    pretrain: Config = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    optional: bool = False
    adapted_on: str = ""

    @property
    def pretrained_on(self) -> str:
        """The data set that the rows were adapted on."""
        return self.adapted_on or self.data


def read_rows(where: str, content: Config) -> dict[str, Row]:
    """The rows of a study file, by name.

    Raises:
        UserError: also if a name is not a single path part.
    """
    for name in content:
        path_part(name, f"{where}, name of a row")
    return {name: read_row(f"{where}, row {name}", name, value or {}) for name, value in content.items()}


def read_columns(where: str, content: Config, rows: Collection[str]) -> dict[str, Column]:
    """The columns of a study file, by name.

    Raises:
        UserError: also if a name is not a single path part, or a published value belongs to no row.
    """
    for name in content:
        path_part(name, f"{where}, name of a column")
    columns = {name: read_column(f"{where}, column {name}", name, value or {}) for name, value in content.items()}
    for column in columns.values():
        for row in column.paper:
            if row not in rows:
                raise UserError(f"{where}, column {column.name}, paper: {row!r} is not a row{nearest(row, rows)}")
    return columns


def read_row(where: str, name: str, content: Config) -> Row:
    """A row from its mapping in the yaml."""
    allow(where, content, ("label", "pretrain", "evaluate", "set", "at", "note", "columns"))
    pretrain = content.get("pretrain", {})
    if pretrain is not None:
        allow(f"{where}, pretrain", pretrain, ("config", *CHANGES))
    evaluate = content.get("evaluate") or {}
    allow(f"{where}, evaluate", evaluate, ("config", *CHANGES))
    columns = content.get("columns") or []
    if not isinstance(columns, list):
        raise UserError(f"{where}: `columns` should be a list of names of columns, found {columns!r}")
    return Row(
        name=name,
        label=printable(str(content.get("label", name))),
        pretrain=pretrain,
        evaluate=evaluate,
        both=content.get("set") or {},
        at=content.get("at"),
        note=printable(str(content.get("note", ""))),
        columns=tuple(map(str, columns)),
    )


def read_column(where: str, name: str, content: Config) -> Column:
    """A column from its mapping in the yaml."""
    keys = ("label", "data", "config", "metric", "seeded", "pretrain", "paper", "optional", "adapted_on")
    allow(where, content, (*keys, *CHANGES))
    for key in ("data", "config"):
        if not isinstance(content.get(key), str):
            raise UserError(f"{where}: needs `{key}`, found {content.get(key)!r}")
    for key in ("data", "adapted_on"):  # each takes the place of {data} in the path of a configuration
        if key == "data" or content.get(key, "") != "":  # an empty `adapted_on` is the data itself
            path_part(content[key], f"{where}, {key}")
    pretrain = content.get("pretrain") or {}
    allow(f"{where}, pretrain", pretrain, CHANGES)
    paper = content.get("paper") or {}
    if not isinstance(paper, dict) or not all(isinstance(value, int | float) for value in paper.values()):
        raise UserError(f"{where}: `paper` should map rows to numbers, found {paper!r}")
    label, adapted_on = printable(str(content.get("label", name))), str(content.get("adapted_on", ""))
    return Column(
        name=name,
        label=label if adapted_on in ("", content["data"]) else f"{label}, forgetting on {content['data']}",
        data=content["data"],
        config=content["config"].format(data=content["data"]),
        metric=content.get("metric", "miou"),
        seeded=bool(content.get("seeded", True)),
        changes={key: content[key] for key in CHANGES if key in content},
        pretrain=pretrain,
        paper={row: float(value) for row, value in paper.items()},
        optional=bool(content.get("optional", False)),
        adapted_on=adapted_on,
    )


def allow(where: str, content: Any, keys: Collection[str]) -> None:
    """Refuse anything but a mapping of known keys with valid changes."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: should be a mapping with {', '.join(keys)}, found {content!r}")
    for key in content:
        if key not in keys:
            raise UserError(f"{where}: no key `{key}`{nearest(str(key), keys)}")
    check_changes(where, content)


def has_data(column: Column) -> bool:
    """Return whether the folder of a column's data exists; True for data without a folder."""
    config = changed(read(Path(column.config)), column.changes, column.data, read)
    root = lookup(config, "data.init_args.root")
    return root is None or Path(os.path.expandvars(root)).is_dir()
