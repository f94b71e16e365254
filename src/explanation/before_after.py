"""Pictures of what an adaptation changed: features before and after as colours, next to the image."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from src.backbones.backbone import Backbone
from src.core.atomic_files import make_folder, replacing
from src.evaluation.pca import pca_colours

SIDE = 336  # longer side of the images that the features are shown for, pixels (our choice)
GAP, TITLE = 8, 24  # pixels between and above the three parts of a picture


@torch.no_grad()
def write_pictures(folder: Path, images: list[NDArray[np.uint8]], backbone: Backbone) -> list[Path]:
    """Writes `features-1.png`, … : image, frozen features, adapted features, in one common basis.

    Args:
        folder: where to.
        images: RGB [h, w, 3] of any size.
        backbone: with the adapter in it.
    """
    make_folder(folder)
    shown = [fitted(image, backbone.patch_size) for image in images]
    device = next(backbone.parameters()).device
    batches = [torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].to(device) for image in shown]
    after = [backbone.feature_maps(batch)[-1].float().cpu() for batch in batches]
    with backbone.adapters_off():
        before = [backbone.feature_maps(batch)[-1].float().cpu() for batch in batches]
    colours = pca_colours([*before, *after])
    paths = []
    for number, image in enumerate(shown):
        maps = [
            Image.fromarray((255 * part[0].permute(1, 2, 0)).round().to(torch.uint8).numpy())
            for part in (colours[number], colours[len(shown) + number])
        ]
        parts = [image, *(part.resize(image.size, Image.Resampling.NEAREST) for part in maps)]
        paths.append(folder / f"features-{number + 1}.png")
        with replacing(paths[-1]) as part:
            side_by_side(parts, ["image", "features before", "features after"]).save(part)
    return paths


def fitted(image: NDArray[np.uint8], patch: int) -> Image.Image:
    """The image with its longer side near `SIDE` and both sides multiples of the patch size."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale / patch)) * patch, max(1, round(height * scale / patch)) * patch)
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def side_by_side(parts: list[Image.Image], titles: list[str]) -> Image.Image:
    """Pictures of one size next to each other, each under its title."""
    width, height = parts[0].size
    result = Image.new("RGB", ((width + GAP) * len(parts) + GAP, height + TITLE + GAP), "white")
    pen = ImageDraw.Draw(result)
    for number, (part, title) in enumerate(zip(parts, titles, strict=True)):
        left = GAP + number * (width + GAP)
        pen.text((left, 5), title, fill=(60, 60, 60), font=ImageFont.load_default(13))
        result.paste(part, (left, TITLE))
    return result
