"""Default colours of classes."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]  # red, green, blue from 0 to 255


def distinct_colour(index: int) -> Colour:
    """Return the colour of a class id: hues a golden angle apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def distinct_colours(count: int) -> list[Colour]:
    """Return the colours of the ids from 0 to `count` - 1."""
    return [distinct_colour(index) for index in range(count)]
