"""Images of `adapt`, read by its configuration's data module: all, held-out and labelled ones.

Shapes: H×W network input · h×w native size.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from src.commands.adapt.request import base
from src.commands.adapt.settings import multiple
from src.config.yaml_reader import read
from src.core.errors import MissingFile
from src.probes.fair_comparison import LabelledImage

HELD_OUT = 16  # held-out images that judge a run without masks; a fifth of a smaller folder (our choice)
LEAST = 10  # fewest images of which some are held out (our choice)
COMPARED = 60  # most labelled images in a comparison (our choice)
PATCHES = 32_400  # patches of all compared images together: a few minutes on 2 cores (our choice)
LARGEST = 37**2  # patches of one image: 518 px, the resolution at the end of DINOv2's training


class Labelled(NamedTuple):
    """Labelled images with their classes."""

    images: list[LabelledImage]
    class_names: list[str]
    ignore_index: int


class MaskLocation(NamedTuple):
    """`root` and `masks` of a folder data module that labels the images with a mask."""

    root: Path
    masks: Path | None

    def beside(self, images: Path) -> Path | None:
        """The folder of masks, if they belong to these images."""
        return self.masks if self.root == images.resolve() else None


def locate_masks(images: Path, masks: Path | None) -> MaskLocation | None:
    """Find the masks of a folder of images.

    Args:
        images: Folder of the images.
        masks: A folder of mask files named like the images, or a separate labelled data set with a folder `masks` or
            `train/masks`; None looks for these in `images`.

    Returns:
        None if no masks are given and the folder has none.

    Raises:
        MissingFile: If the given folder does not exist.
    """
    if masks is not None and not masks.is_dir():
        raise MissingFile(f"--masks {masks}: expected a folder of masks named as the images, found nothing there")
    root = images if masks is None else masks
    if (root / "masks").is_dir():
        return MaskLocation(root.resolve(), (root / "masks").resolve())
    if (root / "train" / "masks").is_dir():
        return MaskLocation(root.resolve(), None)
    return None if masks is None else MaskLocation(images.resolve(), masks.resolve())


def data_module(**arguments: Any) -> Any:
    """The folder data module of the configurations."""
    module, _, name = read(base("glare"))["data"]["class_path"].rpartition(".")
    return getattr(import_module(module), name)(cache=False, **arguments)


def checked_source(folder: Path, on_error: str, masks: Path | None = None) -> Any:
    """Images of a folder, each of which has been decoded once.

    Raises:
        MissingFile, UserError: With the folder, or the first unusable file.
    """
    data = data_module(root=folder, on_error=on_error, masks=masks)
    source = data.source("train")  # only usable ones, if others are skipped
    if on_error == "raise":
        with ThreadPoolExecutor(4) as threads:  # decoders release the interpreter lock; each holds a whole image
            decoded = threads.map(lambda index: source.image(index).shape, range(len(source)))
            for _ in tqdm(decoded, "checking", len(source), unit="image", delay=5, leave=False):
                pass
    return source


def seen_in_training(images: int) -> int | None:
    """Number of images to train on, the rest being held out; None for all of a small folder."""
    return None if images < LEAST else images - min(HELD_OUT, images // 5)


def labelled_images(location: MaskLocation, on_error: str, patch: int) -> Labelled:
    """Labelled images for probes: larger if fewer, with their aspect ratio, masks at native size.

    Raises:
        MissingFile, UserError: With the folder, image or mask that cannot be used.
    """
    data = data_module(
        root=location.root, masks=location.masks, on_error=on_error, task="segment", batch_size=1,
        num_workers=0,
    )  # fmt: skip
    source = data.labelled_source()
    count = min(COMPARED, len(source))
    images = []
    for place in np.linspace(0, len(source) - 1, count).round().astype(int).tolist():
        image, mask = source.pair(place)
        size = probed_size((image.shape[0], image.shape[1]), patch, min(PATCHES // count, LARGEST))
        resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized))
        images.append(
            LabelledImage(
                place, source.name(place), pixels.permute(2, 0, 1).contiguous(), torch.from_numpy(mask.copy())
            )
        )
    return Labelled(images, data.class_names, data.ignore_index)


def probed_size(shape: tuple[int, int], patch: int, patches: int) -> tuple[int, int]:
    """The size in multiples of the patch size at which an image of (height, width) has about `patches` patches.

    Thin classes need many patches and the right aspect ratio. Small images are not enlarged.
    """
    height, width = shape
    scale = min(1.0, math.sqrt(patches * patch**2 / (height * width)))
    return multiple(round(height * scale), patch), multiple(round(width * scale), patch)


def used_side(images: list[NDArray[np.uint8]], patch: int) -> float:
    """Side of a square with the median area of the images in use, at most `LARGEST` patches."""
    return float(np.median([math.sqrt(math.prod(probed_size(one.shape[:2], patch, LARGEST))) for one in images]))


def spread_images(source: Any, count: int) -> list[NDArray[np.uint8]]:
    """`count` evenly spaced images `[h, w, 3]` of a source, or all."""
    places = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int).tolist()
    return [source.image(place) for place in places]


def squares(images: list[NDArray[np.uint8]], side: int) -> Tensor:
    """Resize images of any sizes to one batch `[N, 3, side, side]`, uint8."""
    resized = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()
