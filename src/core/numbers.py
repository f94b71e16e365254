"""Check numbers in settings: finite, and within a range."""

from __future__ import annotations

import math

from src.core.errors import UserError

LARGEST = 1e15  # no setting makes sense beyond, and products of two stay far below float32's largest


def check_number(name: str, value: float, least: float = 0.0, most: float = LARGEST, open_left: bool = False) -> None:
    """Check that a setting is a finite number within [least, most].

    Args:
        name: Name of the setting, for the message.
        value: Its value.
        least: Smallest value.
        most: Largest value.
        open_left: Exclude `least` itself.

    Raises:
        UserError: Otherwise.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
    if number and (least < value if open_left else least <= value) and value <= most:
        return
    bound = f" and at most {most:g}" if most < LARGEST or (number and value > most) else ""
    least_text = f"above {least:g}" if open_left else f"of at least {least:g}"
    raise UserError(f"{name}: expected a finite number {least_text}{bound}, found {value}")
