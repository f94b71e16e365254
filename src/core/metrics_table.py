"""A run's metrics.csv: one row per logged step, with columns added as needed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple


class MetricsTable(NamedTuple):
    """Columns in their order, and rows of texts by column; a truncated row has None for missing values."""

    columns: list[str]
    rows: list[dict[str, Any]]


def read_table(path: Path) -> MetricsTable:
    """Read a table; empty if the file does not exist.

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
    """Read the columns; none if the file does not exist."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream), [])


def write_table(path: Path, table: MetricsTable) -> None:
    """Write a table; columns missing in a row are left empty."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, table.columns)
        writer.writeheader()
        writer.writerows(table.rows)
