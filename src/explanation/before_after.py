"""Picture of an adaptation: an image, and its features before and after as colours in a common basis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.backbones.backbone import Backbone
from src.core.atomic_files import make_folder, replacing
from src.evaluation.pca import pca_colours
from src.explanation.drawing import fitted, sheet

Pixels = NDArray[np.uint8]

SIDE = 336  # longer side of the network's input here, pixels (our choice)
TITLES = ("image", "features before", "features after")


def map_colours(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[tuple[Pixels, Pixels]]:
    """Return the colours `[h, w, 3]` of each image's features before and after; equal colours mean equal features.

    Args:
        before: Feature maps `[D, h, w]`, one per image.
        after: Feature maps of the same images.
    """
    colours = pca_colours([features[None].float() for features in (*before, *after)])
    pixels = [(255 * part[0].permute(1, 2, 0)).round().to(torch.uint8).numpy() for part in colours]
    return list(zip(pixels[: len(before)], pixels[len(before) :], strict=True))


def before_after(image: Pixels, colours: tuple[Pixels, Pixels]) -> Image.Image:
    """Draw an image `[H, W, 3]` next to its feature colours, enlarged to its size."""
    size = (image.shape[1], image.shape[0])
    maps = [Image.fromarray(part).resize(size, Image.Resampling.NEAREST) for part in colours]
    return sheet([list(zip(TITLES, [Image.fromarray(image), *maps], strict=True))])


@torch.no_grad()
def write_pictures(folder: Path, images: Sequence[Pixels], backbone: Backbone) -> list[Path]:
    """Write `features-1.png`, …: image, frozen features, adapted features.

    Args:
        folder: Folder of the files.
        images: RGB `[H, W, 3]` of any size.
        backbone: With the adapter installed.
    """
    make_folder(folder)
    shown = [fitted(image, backbone.patch_size, SIDE) for image in images]
    device = backbone.mean.device
    batches = [torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device) for image in shown]
    after = [backbone.feature_maps(batch)[-1][0].cpu() for batch in batches]
    with backbone.adapters_off():
        before = [backbone.feature_maps(batch)[-1][0].cpu() for batch in batches]
    paths = []
    for number, (image, colours) in enumerate(zip(shown, map_colours(before, after), strict=True), start=1):
        paths.append(folder / f"features-{number}.png")
        with replacing(paths[-1]) as part:
            before_after(image, colours).save(part)
    return paths
