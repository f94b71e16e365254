"""Scenes: aerial-like images with masks, painted on the fly. The data set that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.reading.checking import OnError
from datamodules.reading.sources import Source
from datamodules.scenes.objects import paint_scene
from datamodules.transforms.segmentation import TrainingTransforms

CLASSES: dict[str, Colour] = {
    "soil": (178, 140, 100),
    "field": (226, 200, 84),
    "meadow": (150, 206, 110),
    "road": (120, 116, 128),
    "building": (206, 74, 60),
    "water": (60, 124, 206),
    "tree": (28, 104, 52),
}


class PaintedScenes:
    """A list of scenes; scene i depends on (seed, split, i) alone, not on how many there are.

    Args:
        size: Number of scenes.
        side: Of each, pixels.
        seed: Another seed is another world.
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
        side: Of a scene, pixels.
        world: Seed of the scenes; `seed` only draws crops and order, so that runs share their data.
        task: See `DomainDataModule`, as all that follow.
        batch_size: Images per batch and process.
        size: Side of the views, or (height, width) of the segmentation network's input.
        local_views: Number of local views.
        local_size: Side of the local views.
        transforms: What training images and masks go through.
        evaluate_on: `val` or `holdout`.
        label_fraction: Share of the training labels to use.
        extra: Further folders of images for pre-training.
        on_error: `raise` or `skip`, of files in `extra`.
        evaluation: `resized` or `native`.
        predict_on: Folder of images to predict.
        num_workers: Loader processes.
        seed: Seed of all draws but the scenes'.
        cache: Keep painted scenes in memory.
    """

    def __init__(
        self,
        train_images: int = 200,
        val_images: int = 60,
        side: int = 256,
        world: int = 0,
        task: Literal["pretrain", "segment"] = "pretrain",
        batch_size: int = 16,
        size: int | tuple[int, int] = 224,
        local_views: int = 0,
        local_size: int = 96,
        transforms: TrainingTransforms | None = None,
        evaluate_on: Literal["val", "holdout"] = "val",
        label_fraction: float = 1.0,
        extra: list[Path] | None = None,
        on_error: OnError = "raise",
        evaluation: Literal["resized", "native"] = "resized",
        predict_on: Path | None = None,
        num_workers: int = 2,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        super().__init__(
            task=task,
            batch_size=batch_size,
            size=size,
            local_views=local_views,
            local_size=local_size,
            transforms=transforms,
            evaluate_on=evaluate_on,
            label_fraction=label_fraction,
            extra=extra,
            on_error=on_error,
            evaluation=evaluation,
            predict_on=predict_on,
            num_workers=num_workers,
            seed=seed,
            cache=cache,
        )
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
