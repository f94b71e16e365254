"""Unlabelled images that are not files: stripes, as a stand-in for a database or an instrument of your own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.base import DomainDataModule, Split
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Source


class Stripes:
    """A list of striped images; the same at every call."""

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"stripes/{index}"

    def image(self, index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(index)
        wave = np.sin(np.arange(self.side) * rng.uniform(0.1, 1.0))[:, None, None] * rng.uniform(40, 120, 3)
        noise = rng.normal(0, 10, (self.side, self.side, 3))
        return np.clip(128 + wave + noise, 0, 255).astype(np.uint8)

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.image(index), np.full((self.side, self.side), IGNORE, np.uint8)


class StripesDataModule(DomainDataModule):
    """Unlabelled stripes.

    Args:
        images: Their number.
        side: Of an image, pixels.
        shared: See `DataArguments`.
    """

    def __init__(self, images: int = 32, side: int = 64, **shared: Any) -> None:
        super().__init__(**shared)
        self.images, self.side = images, side

    def read(self, split: Split) -> Source:
        return Stripes(self.images, self.side)
