"""Curves out of a run's metrics.csv."""

import csv
from collections.abc import Mapping
from pathlib import Path

Curve = list[tuple[int, float]]  # (step, value), by step


def read_curves(path: Path) -> dict[str, Curve]:
    """Each metric's values over the steps; a step that a resumed run logged twice counts once, with its later value.

    Returns:
        Nothing where there is no file.
    """
    if not path.is_file():
        return {}
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for name, text in row.items():
                if name in ("step", "epoch") or not text or not row.get("step"):
                    continue
                found.setdefault(name, {})[int(float(row["step"]))] = float(text)
    return {name: sorted(values.items()) for name, values in found.items()}


def mean_curve(curves: list[Curve]) -> Curve:
    """The mean over runs at the steps that all of them have."""
    if not curves:
        return []
    values: list[Mapping[int, float]] = [dict(curve) for curve in curves]
    steps = sorted(set(values[0]).intersection(*values))
    return [(step, sum(value[step] for value in values) / len(values)) for step in steps]
