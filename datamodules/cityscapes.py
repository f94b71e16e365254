"""Cityscapes: road scenes of 50 cities, 1024×2048 (Cordts et al., 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules.base import Split
from datamodules.reading.masks import IGNORE
from datamodules.reading.segmentation_folder import SegmentationFolder, pair_masks
from datamodules.reading.sources import Source

VOID_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""Ignored label ids: vehicle and image borders, void, and classes too rare to judge."""
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each class, in the order of the train ids."""


class CityscapesDataModule(SegmentationFolder):
    """Cityscapes' fine annotations: 2,975 training and 500 validation images, 19 classes.

    Layout: `leftImg8bit/{train,val,test}/<city>/*_leftImg8bit.png` and `gtFine/{train,val}/<city>/`, with
    `*_gtFine_labelTrainIds.png` where all images of a split have them, else with the `*_gtFine_labelIds.png` of the
    download. Prediction reads the test images, if they exist.
    """

    CLASSES: ClassVar = {
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "building": (70, 70, 70),
        "wall": (102, 102, 156),
        "fence": (190, 153, 153),
        "pole": (153, 153, 153),
        "traffic light": (250, 170, 30),
        "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "terrain": (152, 251, 152),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "rider": (255, 0, 0),
        "car": (0, 0, 142),
        "truck": (0, 0, 70),
        "bus": (0, 60, 100),
        "train": (0, 80, 100),
        "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    }
    LAYOUT: ClassVar = "Cityscapes' folders leftImg8bit/{train,val} and gtFine/{train,val}"
    BY_LABEL_ID: ClassVar = (
        {i: c for c, i in enumerate(TRAIN_IDS)} | dict.fromkeys(VOID_IDS, IGNORE) | {255: IGNORE}  # 255: licence plates
    )
    BY_TRAIN_ID: ClassVar = {c: c for c in range(19)} | {255: IGNORE}

    @property
    def ids(self) -> list[int]:
        """Label ids, as the benchmark's server takes them."""
        return list(TRAIN_IDS)

    def images(self, split: Split) -> list[Path]:
        return self.listed(self.root / "leftImg8bit" / split)

    def masks(self, split: Split, images: list[Path]) -> list[Path]:
        ending = "_gtFine_labelTrainIds" if self._converted(split) else "_gtFine_labelIds"
        return pair_masks(
            images, self.root / "leftImg8bit" / split, self._truth(split), "_leftImg8bit", ending, self.on_error
        )

    def labels(self, split: Split) -> dict[int, int]:
        return self.BY_TRAIN_ID if self._converted(split) else self.BY_LABEL_ID

    def read_predict(self) -> Source:
        """The test images; the validation images if the copy has no test images."""
        test = self.root / "leftImg8bit" / "test"
        return self.files(self.root, self.listed(test)) if test.is_dir() else super().read_predict()

    def _truth(self, split: Split) -> Path:
        return self.root / "gtFine" / split

    def _converted(self, split: Split) -> bool:
        """Return whether all images have masks of train ids; an interrupted conversion is not used."""
        folder = self.root / "leftImg8bit" / split
        stems = [image.relative_to(folder).as_posix().rsplit("_leftImg8bit", 1)[0] for image in self.images(split)]
        return all((self._truth(split) / f"{stem}_gtFine_labelTrainIds.png").is_file() for stem in stems)
