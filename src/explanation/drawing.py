"""Drawing on images: heat over patches, boxes, lines, and sheets of titled pictures.

Shapes: H×W pixels of a picture · h×w patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from src.core.colours import Colour
from src.explanation.palette import HEAT, MARKS, TEXT

GAP, TITLE = 8, 22  # pixels between and above the pictures of a sheet
DARK = 0.35  # brightness of the image where a heat map is zero (our choice)


def fitted(image: NDArray[np.uint8], patch: int, side: int) -> NDArray[np.uint8]:
    """The image `[H, W, 3]` with its longer side near `side` and both sides multiples of the patch size."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale / patch)) * patch, max(1, round(height * scale / patch)) * patch)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def heat(image: NDArray[np.uint8], values: Tensor) -> Image.Image:
    """Overlay an image with `values` `[h, w]`: dark for small, amber for large ones.

    The largest hundredth is fully amber, so that a single patch does not leave the rest dark.
    """
    shown = (values.float() / values.float().quantile(0.99).clamp(min=1e-12)).clamp(max=1)
    size = (image.shape[1], image.shape[0])
    grey = Image.fromarray((255 * shown).round().to(torch.uint8).cpu().numpy())
    weight = np.asarray(grey.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)[..., None] / 255
    bright = image * (DARK + (1 - DARK) * weight)
    return Image.fromarray((bright + 0.6 * weight * (np.asarray(HEAT) - bright)).round().astype(np.uint8))


def boxes(image: NDArray[np.uint8], corners: Sequence[tuple[int, int, int, int]], patch: int) -> Image.Image:
    """Draw rectangles (top, left, bottom, right) in patches, the last two exclusive, each in its colour."""
    result = Image.fromarray(image).copy()
    pen = ImageDraw.Draw(result)
    for number, (top, left, bottom, right) in enumerate(corners):
        place = (left * patch, top * patch, right * patch - 1, bottom * patch - 1)
        pen.rectangle(place, outline=MARKS[number % len(MARKS)], width=3)
    return result


def joined(
    left: NDArray[np.uint8], right: NDArray[np.uint8], lines: Sequence[tuple[Tensor, Tensor, Colour]]
) -> Image.Image:
    """Draw two pictures side by side with lines from points (y, x) of the left one to points of the right one."""
    result = beside([Image.fromarray(left), Image.fromarray(right)])
    pen = ImageDraw.Draw(result)
    for start, end, colour in lines:
        (y0, x0), (y1, x1) = start.tolist(), end.tolist()
        x1 += left.shape[1] + GAP
        pen.line((x0, y0, x1, y1), fill=colour, width=2)
        for y, x in ((y0, x0), (y1, x1)):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline=(20, 20, 20))
    return result


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Join pictures of equal height in a row."""
    width = sum(picture.width + GAP for picture in pictures) - GAP
    result = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        result.paste(picture, (left, 0))
        left += picture.width + GAP
    return result


def sheet(rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """Draw rows of pictures, each under its title."""
    font = ImageFont.load_default(13)
    width = max(sum(picture.width + GAP for _, picture in row) for row in rows) + GAP
    heights = [max(picture.height for _, picture in row) + TITLE for row in rows]
    result = Image.new("RGB", (width, sum(heights) + GAP), "white")
    pen, top = ImageDraw.Draw(result), 0
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for title, picture in row:
            pen.text((left, top + 4), title, fill=TEXT, font=font)
            result.paste(picture, (left, top + TITLE))
            left += picture.width + GAP
        top += height
    return result
