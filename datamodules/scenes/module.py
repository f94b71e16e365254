"""Generated aerial-like scenes with masks, which need no download."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.reading.sources import Source
from datamodules.scenes.objects import paint_scene
from src.core.numbers import check_number

CLASSES: dict[str, Colour] = {
    "soil": (178, 140, 100),
    "field": (226, 200, 84),
    "meadow": (150, 206, 110),
    "road": (120, 116, 128),
    "building": (206, 74, 60),
    "water": (60, 124, 206),
    "tree": (28, 104, 52),
}


MOST_SCENES = 10**8  # more than anybody would wait for
LARGEST_SIDE = 2**14  # pixels; a scene is painted in memory


class PaintedScenes:
    """List of scenes; scene i depends on (seed, split, i) alone, not on their number.

    Args:
        size: Number of scenes.
        side: Side of each, pixels.
        seed: A different seed gives a different world.
        split: Training and validation scenes never coincide.
    """

    def __init__(self, size: int, side: int, seed: int, split: Split) -> None:
        self.size = size
        self.side = side
        self.seed = seed
        self.split = split

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        return f"{self.split}/{index:05d}.png"

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.pair(index)[0]

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return paint_scene(np.random.default_rng([self.seed, ("train", "val").index(self.split), index]), self.side)


class ScenesDataModule(DomainDataModule):
    """Procedural aerial-like scenes. Sizes are our choice: as small as the quickstart needs.

    Args:
        train_images: Number of training scenes.
        val_images: Number of validation scenes.
        side: Side of a scene, pixels.
        world: Seed of the scenes; `seed` only affects crops and order, so that runs share their data.
        shared: See `DataArguments`.
    """

    def __init__(
        self,
        train_images: int = 200,
        val_images: int = 60,
        side: int = 256,
        world: int = 0,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        for name, value in (("train_images", train_images), ("val_images", val_images)):
            check_number(name, value, least=1, most=MOST_SCENES)
        check_number("side", side, least=1, most=LARGEST_SIDE)
        check_number("world", world)
        self.train_images = train_images
        self.val_images = val_images
        self.side = side
        self.world = world

    @property
    def class_names(self) -> list[str]:
        return list(CLASSES)

    @property
    def palette(self) -> list[Colour]:
        return list(CLASSES.values())

    def read(self, split: Split) -> Source:
        return PaintedScenes(self.train_images if split == "train" else self.val_images, self.side, self.world, split)
