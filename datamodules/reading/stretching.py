"""Stretch images of more than 8 bits to 0–255, strip by strip to bound memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.core.errors import UserError

_STRIP = 2**18  # values converted at a time
_SAMPLE = 2**20  # values from which percentiles are computed, evenly spread


@dataclass(frozen=True)
class Stretch:
    """The range of values that becomes 0–255; values beyond it are clipped.

    Args:
        percentiles: Low and high percentile of each image's values, such as (1, 99); None takes its full range, which a
            single extreme value can widen until all others look the same.
        range: Low and high value, the same for all images.

    Raises:
        UserError: If both are given, or one is not a range.
    """

    percentiles: tuple[float, float] | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.percentiles is not None and self.range is not None:
            raise UserError("percentiles and range: expected one of them, found both; remove one")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise UserError(f"percentiles: expected low < high, 0 to 100, such as [1, 99], found {self.percentiles}")
        if self.range is not None and not (np.isfinite(self.range).all() and self.range[0] < self.range[1]):
            raise UserError(f"range: expected low < high, such as [0, 4095], found {self.range}")

    def __call__(self, pixels: NDArray[Any], nodata: float | None = None) -> NDArray[np.uint8]:
        """Stretch over all channels; a constant image keeps its share of the type's range.

        Args:
            pixels: `[h, w]` or `[h, w, 3]`.
            nodata: Value of pixels without data, which become 0 and do not count for the range.

        Raises:
            UserError: If a value other than `nodata` is NaN or infinite.
        """
        low, high = self._limits(pixels, nodata)
        out = np.empty(pixels.shape, np.uint8)
        for rows in _strips(pixels):
            values = pixels[rows].astype(np.float64)
            values -= low
            values *= 255.0 / (high - low)
            without = _without(pixels[rows], nodata)
            if without is not None:
                values[without] = 0
            np.rint(values, out=values)
            out[rows] = values.clip(0, 255, out=values)
        return out

    def _limits(self, pixels: NDArray[Any], nodata: float | None) -> tuple[float, float]:
        low, high = np.inf, -np.inf
        for rows in _strips(pixels):
            given = _given(pixels[rows], nodata)
            if given.size:
                ends = float(given.min()), float(given.max())
                if not np.isfinite(ends).all():
                    raise UserError("pixels that are NaN or infinite")
                low, high = min(low, ends[0]), max(high, ends[1])
        if self.range is not None:
            return self.range
        if low > high:  # only nodata
            return 0.0, 1.0
        if self.percentiles is not None:
            step = max(1, int(np.ceil(np.sqrt(pixels.size / _SAMPLE))))
            sample = _given(pixels[::step, ::step], nodata)
            limits = np.percentile(sample, self.percentiles) if sample.size else (low, high)
            if limits[0] < limits[1]:
                return float(limits[0]), float(limits[1])
        if low == high:
            whole = np.issubdtype(pixels.dtype, np.integer)
            return 0.0, float(np.iinfo(pixels.dtype).max) if whole else max(1.0, abs(high))
        return low, high


WHOLE_RANGE = Stretch()


def _strips(pixels: NDArray[Any]) -> Iterator[slice]:
    rows = max(1, _STRIP // max(1, int(np.prod(pixels.shape[1:]))))
    for start in range(0, len(pixels), rows):
        yield slice(start, start + rows)


def _without(pixels: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    if nodata is None:
        return None
    # a float32 file may state it with fewer digits than it holds
    return np.isclose(pixels, nodata, rtol=1e-6, atol=0, equal_nan=True)


def _given(pixels: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    without = _without(pixels, nodata)
    return pixels if without is None else pixels[~without]
