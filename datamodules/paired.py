"""Data sets laid out as `images/{train,val}` and `masks/{train,val}`, with files that pair by name."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.images import ImageError, list_images
from datamodules.sources import Files, Source
from datamodules.training_transforms import TrainingTransforms


class PairedFolders(DomainDataModule):
    """A labelled data set in two parallel folders. A subclass states its classes.

    Args:
        root: Folder that holds `images` and `masks`.
        job: See `DomainDataModule`, as all that follow.
        batch_size: Images per batch and process.
        size: Side of the views, or (height, width) of the segmentation network's input.
        local_views: Number of local views.
        local_size: Side of the local views.
        transforms: What training images and masks go through.
        evaluate_on: `val` or `holdout`.
        workers: Loader processes.
        seed: Seed of all draws.
        cache: Keep decoded images in memory.
    """

    CLASSES: ClassVar[dict[str, Colour]]
    """Name → colour, in id order."""
    IGNORED_IDS: ClassVar[tuple[int, ...]] = ()
    """Ids in the mask files that are no class."""

    def __init__(
        self,
        root: Path,
        job: Literal["pretrain", "segment"] = "pretrain",
        batch_size: int = 16,
        size: int | tuple[int, int] = 224,
        local_views: int = 0,
        local_size: int = 96,
        transforms: TrainingTransforms | None = None,
        evaluate_on: Literal["val", "holdout"] = "val",
        workers: int = 2,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        super().__init__(job, batch_size, size, local_views, local_size, transforms, evaluate_on, workers, seed, cache)
        self.root = Path(root)

    @property
    def class_names(self) -> list[str]:
        return list(self.CLASSES)

    @property
    def palette(self) -> list[Colour]:
        return list(self.CLASSES.values())

    def read(self, split: Split) -> Source:
        images, masks = self.root / "images" / split, self.root / "masks" / split
        if not images.is_dir():
            raise FileNotFoundError(
                f"{self.root}: expected the folders images/train, images/val, masks/train and masks/val "
                f"(mask files named as their images, .png), found no images/{split}; set root to the folder above them"
            )
        files = list_images(images)
        if self.job == "pretrain":
            return Files(self.root, files)
        labels = {i: i for i in range(len(self.CLASSES))} | dict.fromkeys(self.IGNORED_IDS, self.ignore_index)
        return Files(self.root, files, pair_masks(files, images, masks), labels)


def pair_masks(images: list[Path], image_folder: Path, mask_folder: Path) -> list[Path]:
    """Find the mask of each image: the same path below the other folder, with any suffix.

    Raises:
        FileNotFoundError: If there is no folder of masks.
        ImageError: Naming an image without a mask, or with several.
    """
    if not mask_folder.is_dir():
        raise FileNotFoundError(f"{mask_folder}: expected the folder of masks for {image_folder}, found nothing")
    by_stem: dict[Path, list[Path]] = {}
    for path in list_images(mask_folder):
        by_stem.setdefault(path.relative_to(mask_folder).with_suffix(""), []).append(path)
    masks = []
    for image in images:
        stem = image.relative_to(image_folder).with_suffix("")
        found = by_stem.get(stem, [])
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ImageError(
                f"{image}: expected one mask {mask_folder / stem}.png, found {names}; add it or remove the image"
            )
        masks.append(found[0])
    return masks
