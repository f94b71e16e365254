"""Check numbers in settings: finite, and within a range."""

from __future__ import annotations

import math

from src.core.errors import UserError


def check_number(name: str, value: float, least: float = 0.0, most: float = math.inf, open_left: bool = False) -> None:
    """Check that a setting is a finite number within [least, most].

    Args:
        name: Name of the setting, for the message.
        value: Its value.
        least: Smallest value.
        most: Largest value; infinity for no bound (the value itself must be finite).
        open_left: Exclude `least` itself.

    Raises:
        UserError: Otherwise.
    """
    if math.isfinite(value) and (least < value if open_left else least <= value) and value <= most:
        return
    bound = "" if math.isinf(most) else f" and at most {most:g}"
    least_text = f"above {least:g}" if open_left else f"of at least {least:g}"
    raise UserError(f"{name}: expected a finite number {least_text}{bound}, found {value}")
