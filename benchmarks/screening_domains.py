"""The domains that benchmarks/screening.py adapts to: images for training, labelled images for the probes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datamodules.base import DomainDataModule, Split
from datamodules.reading.sources import Source
from src.probes.cross_validation import CrossValidatedProbes
from src.probes.fair_comparison import FairProbes, LabelledImage

# domain → classes, probe's input size, images of which kind
DOMAINS = {
    "camvid": (11, (294, 392)),
    "cwfid": (3, (504, 672)),
    "loveda": (7, (280, 280)),
    "scenes": (7, (252, 252)),
    "scenes-grey": (7, (252, 252)),
    "shapes": (4, (224, 224)),
}
HELD_BACK = {"camvid": 5, "cwfid": 2, "loveda": 2}  # each of these training images, counting from the first ...
PAINTED_HELD_BACK = 64  # ... and the last ones of the others: as many as need be are painted
SCREENED = 64  # held-back images at most that probes of the screening are fitted to and scored on


class Arrays:
    """Encoded images and masks in memory, decoded at each use: a `Source`."""

    def __init__(self, images: list[np.ndarray], masks: list[np.ndarray], names: list[str]) -> None:
        self.images, self.masks, self.names = images, masks, names

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.names[index]

    def image(self, index: int) -> np.ndarray:
        return cv2.cvtColor(cv2.imdecode(self.images[index], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.image(index), cv2.imdecode(self.masks[index], cv2.IMREAD_GRAYSCALE)

    def part(self, indices: list[int]) -> Arrays:
        return Arrays(*([values[i] for i in indices] for values in (self.images, self.masks, self.names)))


class Unlabelled(DomainDataModule):
    """Pre-training on a source."""

    def __init__(self, source: Source, **options: Any) -> None:
        super().__init__(task="pretrain", **options)
        self._given = source

    def read(self, split: Split) -> Source:
        return self._given


@functools.cache
def domain(folder: Path, split: str) -> Arrays:
    """The images of a domain's split."""
    files = sorted((folder / split).glob("*.jpg"))
    masks = [np.fromfile(file.with_suffix(".png"), np.uint8) for file in files]
    return Arrays([np.fromfile(file, np.uint8) for file in files], masks, [file.name for file in files])


def labelled(source: Arrays, size: tuple[int, int], most: int) -> list[LabelledImage]:
    """Images at the probe's size with their masks, evenly spread."""
    chosen = np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int)
    result = []
    for index in chosen.tolist():
        image, mask = source.pair(index)
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        result.append(LabelledImage(index, source.name(index), tensor, torch.from_numpy(mask)))
    return result


def held_back(name: str, images: int) -> list[int]:
    """Indices of the training images of a domain that the screening does not adapt to."""
    if name in HELD_BACK:
        return list(range(0, images, HELD_BACK[name]))
    return list(range(images - PAINTED_HELD_BACK, images))


def probes_of(folder: Path, name: str, stage: str) -> tuple[Arrays, CrossValidatedProbes | FairProbes]:
    """Images that a stage adapts to, and its probes.

    Those of the screening are cross-validated on the held-back training images, none of which was adapted to; those of
    the measurement are fitted to the training images and scored on the evaluation images.
    """
    classes, size = DOMAINS[name]
    train = domain(folder / name, "train")
    if stage == "screening":
        held = held_back(name, len(train))
        adapt = train.part([index for index in range(len(train)) if index not in set(held)])
        return adapt, CrossValidatedProbes(labelled(train.part(held), size, SCREENED), classes)
    most = 10**6
    return train, FairProbes(labelled(train, size, most), labelled(domain(folder / name, "val"), size, most), classes)
