"""LoveDA: land cover from the air in cities and in the country, 1024×1024 at 0.3 m (Wang et al., 2021)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

from datamodules.base import Split
from datamodules.reading.masks import IGNORE
from datamodules.reading.segmentation_folder import SegmentationFolder, pair_masks
from datamodules.reading.sources import Source

logger = logging.getLogger(__name__)

DOMAINS = ("Rural", "Urban")


class LoveDADataModule(SegmentationFolder):
    """LoveDA as it is published: 2,522 training, 1,669 validation and 1,796 unlabelled test images.

    Layout: `{Train,Val}/{Urban,Rural}/{images_png,masks_png}` and `Test/{Urban,Rural}/images_png`. A copy with only one
    of Urban and Rural is used as it is, with a warning. Prediction reads the test images, if they exist, and writes
    what the benchmark's server takes: classes 0 to 6 in files named like the images, zipped without folders.
    """

    CLASSES: ClassVar = {
        "background": (255, 255, 255),
        "building": (255, 0, 0),
        "road": (255, 255, 0),
        "water": (0, 0, 255),
        "barren": (159, 129, 183),
        "forest": (0, 255, 0),
        "agriculture": (255, 195, 128),
    }
    LABELS: ClassVar = {0: IGNORE} | {i: i - 1 for i in range(1, 8)}
    LAYOUT: ClassVar = "LoveDA's folders {Train,Val}/{Urban,Rural}/{images_png,masks_png}"

    def images(self, split: Split) -> list[Path]:
        places = self._places(split.capitalize())
        if not places:
            return self.listed(self.root / split.capitalize() / "Urban" / "images_png")  # reports that it is missing
        return [path for place in places for path in self.listed(place / "images_png")]

    def masks(self, split: Split, images: list[Path]) -> list[Path]:
        masks = []
        for place in self._places(split.capitalize()):
            here = [path for path in images if path.is_relative_to(place)]
            masks += pair_masks(here, place / "images_png", place / "masks_png", on_error=self.on_error)
        return masks

    @property
    def submission(self) -> bool:
        return self.predict_on is None and (self.root / "Test").is_dir()

    def read_predict(self) -> Source:
        """The test images; the validation images if the copy has no test images."""
        places = self._places("Test")
        if not places:
            return super().read_predict()
        return self.files(self.root, [path for place in places for path in self.listed(place / "images_png")])

    def _places(self, split: str) -> list[Path]:
        """The folders of the two domains, as far as they exist; Rural comes first."""
        there = [self.root / split / domain for domain in DOMAINS if (self.root / split / domain).is_dir()]
        if len(there) == 1:
            logger.warning("%s: only %s was found, half of LoveDA's %s split", self.root, there[0].name, split)
        return there
