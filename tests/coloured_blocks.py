"""Labelled images that a tiny random ViT can tell apart: squares in one of three colours, with noise."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.reading.sources import Source
from datamodules.transforms.segmentation import TrainingTransforms

COLOURS: list[Colour] = [(210, 40, 40), (40, 210, 40), (40, 40, 210)]


class ColouredBlocks:
    """A `Source` of images 40×56: squares of 8 pixels, off the patches' grid; a strip of each mask is unlabelled."""

    def __init__(self, images: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        squares = [np.kron(rng.integers(3, size=(5, 7)), np.ones((8, 8))).astype(np.uint8) for _ in range(images)]
        self.masks = [np.roll(mask, 3, axis=(0, 1)) for mask in squares]  # no patch holds one class alone
        self.noise = [rng.normal(0, 12, size=(40, 56, 3)) for _ in range(images)]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.masks)

    def name(self, index: int) -> str:
        return f"block-{index}.png"

    def image(self, index: int) -> NDArray[np.uint8]:
        self.reads += 1
        return np.clip(np.array(COLOURS)[self.masks[index]] + self.noise[index], 0, 255).astype(np.uint8)

    def mask(self, index: int) -> NDArray[np.uint8]:
        mask = self.masks[index].copy()
        mask[:4] = 255
        return mask

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.image(index), self.mask(index)


class BlocksDataModule(DomainDataModule):
    """Seven training and five validation images, resized to 80×112: 5×7 patches of 16 pixels."""

    def __init__(self, batch_size: int = 3, transforms: TrainingTransforms | None = None) -> None:
        super().__init__(
            task="segment",
            batch_size=batch_size,
            size=(80, 112),
            transforms=transforms,
            num_workers=0,
            seed=0,
            cache=False,
        )
        self.sets: dict[Split, ColouredBlocks] = {"train": ColouredBlocks(7, 0), "val": ColouredBlocks(5, 1)}

    @property
    def class_names(self) -> list[str]:
        return ["red", "green", "blue"]

    @property
    def palette(self) -> list[Colour]:
        return COLOURS

    def read(self, split: Split) -> Source:
        return self.sets[split]


def trainer(folder: object, **options: object) -> Trainer:
    """A quiet trainer on the CPU."""
    settings: dict = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**(settings | options))
