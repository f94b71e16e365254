"""Data sets laid out as `images/{train,val}` and `masks/{train,val}`, with files paired by name."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules.base import Split
from datamodules.reading.segmentation_folder import SegmentationFolder, pair_masks


class PairedFolders(SegmentationFolder):
    """A labelled data set in two parallel folders. A subclass defines its classes, whose ids the masks hold."""

    LAYOUT: ClassVar = (
        "the folders images/train, images/val, masks/train and masks/val (masks named like their images, as .png)"
    )

    def images(self, split: Split) -> list[Path]:
        return self.listed(self.root / "images" / split)

    def masks(self, split: Split, images: list[Path]) -> list[Path]:
        return pair_masks(images, self.root / "images" / split, self.root / "masks" / split, on_error=self.on_error)
