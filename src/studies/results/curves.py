"""Curves of metrics over steps, from metrics.csv."""

import csv
from pathlib import Path

from src.core.json_files import damaged
from src.core.metrics_table import read_table

Curve = list[tuple[int, float]]  # (step, value), by step


def read_curves(path: Path) -> dict[str, Curve]:
    """Each metric's values over the steps; a step that a resumed run logged twice counts once, with its later value.

    Rows without a step, and values that are not numbers, as in a row cut off by a kill, are left out.

    Returns:
        Nothing where there is no file, or one that is no text.
    """
    try:
        rows = read_table(path).rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        damaged(path, f"expected a table of metrics, found a damaged file ({error})")
        return {}
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        step = _number(row.pop("step", None))
        for name, text in row.items():
            if name not in ("epoch", None) and step is not None and (value := _number(text)) is not None:
                found.setdefault(name, {})[int(step)] = value
    return {name: sorted(values.items()) for name, values in found.items()}


def _number(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str) and text else None
    except ValueError:
        return None
