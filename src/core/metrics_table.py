"""A run's metrics.csv: a row for each logged step, whose columns may grow."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple


class MetricsTable(NamedTuple):
    """Columns in their order, and rows of texts by column; a row that was cut off has None for what is missing."""

    columns: list[str]
    rows: list[dict[str, Any]]


def read_table(path: Path) -> MetricsTable:
    """Read a table; an empty one where there is no file.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: If it cannot be read, or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            return MetricsTable(list(reader.fieldnames or ()), rows)
    except (FileNotFoundError, NotADirectoryError):
        return MetricsTable([], [])


def read_columns(path: Path) -> list[str]:
    """Read the columns alone; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream), [])


def write_table(path: Path, table: MetricsTable) -> None:
    """Write a table; columns that a row lacks are empty in it."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, table.columns)
        writer.writeheader()
        writer.writerows(table.rows)
