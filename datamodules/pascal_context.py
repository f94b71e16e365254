"""Pascal Context: the images of PASCAL VOC 2010 with every pixel labelled (Mottaghi et al., 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules.ade20k import ADE20KDataModule
from datamodules.base import Split
from datamodules.reading.archive_layouts import PASCAL_CONTEXT
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE
from datamodules.reading.segmentation_folder import SegmentationFolder
from src.core.errors import MissingFile

# in the order of their ids in the 459 categories, which is the alphabetical one: not that of VOC's twenty
_NAMES = """
    aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, cat,
    ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground, horse,
    keyboard, light, motorbike, mountain, mouse, person, plate, platform, pottedplant, road, rock, sheep, shelves,
    sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck, tvmonitor, wall, water, window, wood
"""


class PascalContextDataModule(SegmentationFolder):
    """Pascal Context with its 59 frequent classes, without background: 4,998 training and 5,105 validation images.

    Layout, in the root or in `VOCdevkit/VOC2010` or `VOC2010` below it: `JPEGImages/*.jpg`,
    `SegmentationClassContext/*.png` (0 background, 1 to 59 the classes, as `python -m src prepare` writes them) and
    `ImageSets/SegmentationContext/{train,val}.txt` with one name per line. The classes have no colours of their own:
    these are ADE20K's second to sixtieth, as in the field's toolboxes.
    """

    CLASSES: ClassVar = dict(
        zip((name.strip() for name in _NAMES.split(",")), list(ADE20KDataModule.CLASSES.values())[1:60], strict=True)
    )
    LABELS: ClassVar = {0: IGNORE, 255: IGNORE} | {i: i - 1 for i in range(1, 60)}
    LAYOUT: ClassVar = (
        "Pascal Context's JPEGImages, SegmentationClassContext and ImageSets/SegmentationContext/{train,val}.txt"
    )

    @property
    def base(self) -> Path:
        """The folder of VOC 2010, or the root itself."""
        return PASCAL_CONTEXT.base(self.root)

    def images(self, split: Split) -> list[Path]:
        names = self.base / "ImageSets" / "SegmentationContext" / f"{split}.txt"
        if not names.is_file():
            raise MissingFile(
                f"{self.root}: expected {self.LAYOUT}, found no {names.relative_to(self.root)}; "
                "`python -m src prepare pascal_context` makes them"
            )
        images = [self.base / "JPEGImages" / f"{name}.jpg" for name in names.read_text().split()]
        if not images:
            raise ImageError(f"{names}: expected the name of an image on each line, found none")
        return images if self.on_error == "skip" else _all_there(images, names)

    def masks(self, split: Split, images: list[Path]) -> list[Path]:
        folder = self.base / "SegmentationClassContext"
        masks = [folder / f"{image.stem}.png" for image in images]
        return masks if self.on_error == "skip" else _all_there(masks, folder)


def _all_there(files: list[Path], said_by: Path) -> list[Path]:
    """The same files.

    Raises:
        ImageError: Naming the first that does not exist.
    """
    for path in files:
        if not path.is_file():
            raise ImageError(f"{path}: expected a file, as {said_by} says, found nothing; unpack the data set again")
    return files
