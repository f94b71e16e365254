"""Grid of segmented images: image, truth, prediction and error, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from src.core.colours import Colour
from src.explanation.palette import IGNORED, OPACITY, RIGHT, WRONG

TILE = 320  # longer side of one picture, pixels (our choice)
GAP, LINE, MARGIN = 6, 22, 10  # pixels
COLUMNS = ("image", "truth", "prediction", "error")


class Segmented(NamedTuple):
    """One image and its classes, of equal size.

    Attributes:
        name: Name of the image.
        image: RGB, uint8 `[h, w, 3]`.
        truth: Class ids `[h, w]`.
        prediction: Class ids `[h, w]`.
    """

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


def picture_grid(
    images: Sequence[Segmented], class_names: Sequence[str], palette: Sequence[Colour], ignore_index: int
) -> NDArray[np.uint8]:
    """Draw a row for each image under the titles of the columns, and below them the classes that occur.

    Truth and prediction are drawn over the image; errors are red, correct pixels pale, and ignored pixels dark.

    Args:
        images: One or more.
        class_names: By class id.
        palette: Colour by class id.
        ignore_index: Ignore index of the truth.

    Returns:
        RGB, uint8 `[H, W, 3]`.
    """
    rows = [[Image.fromarray(tile) for tile in tiles(image, palette, ignore_index)] for image in images]
    for row in rows:
        for tile in row:
            tile.thumbnail((TILE, TILE))
    width = len(COLUMNS) * (TILE + GAP) - GAP + 2 * MARGIN
    entries = legend(images, class_names, palette, ignore_index)
    per_line = max(1, (width - 2 * MARGIN) // (LINE + 12 + max(round(_font().getlength(name)) for name, _ in entries)))
    lines = -(-len(entries) // per_line)
    height = LINE + sum(row[0].height + LINE + GAP for row in rows) + LINE * lines + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(sheet), MARGIN
    for column, title in enumerate(COLUMNS):
        pen.text((MARGIN + column * (TILE + GAP), top), title, fill="black", font=_font())
    top += LINE
    for segmented, row in zip(images, rows, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (MARGIN + column * (TILE + GAP), top))
        top += row[0].height
        pen.text((MARGIN, top + 2), segmented.name, fill=(110, 110, 110), font=_font())
        top += LINE + GAP
    step = (width - 2 * MARGIN) // per_line
    for number, (name, colour) in enumerate(entries):
        left, line = MARGIN + number % per_line * step, top + number // per_line * LINE
        pen.rectangle((left, line + 2, left + LINE - 8, line + LINE - 6), fill=colour)
        pen.text((left + LINE - 2, line), name, fill="black", font=_font())
    return np.asarray(sheet)


def tiles(segmented: Segmented, palette: Sequence[Colour], ignore_index: int) -> list[NDArray[np.uint8]]:
    """Four pictures `[h, w, 3]` of one image, in the order of `COLUMNS`."""
    image, ignored = segmented.image, segmented.truth == ignore_index
    colours = np.array([*palette, IGNORED], dtype=np.uint8)
    truth = np.where(ignored, len(palette), segmented.truth)
    wrong = np.where(segmented.prediction == segmented.truth, 0, 1)
    errors = np.array([RIGHT, WRONG, IGNORED], dtype=np.uint8)[np.where(ignored, 2, wrong)]
    return [image, *(over(image, layer) for layer in (colours[truth], colours[segmented.prediction], errors))]


def legend(
    images: Sequence[Segmented], class_names: Sequence[str], palette: Sequence[Colour], ignore_index: int
) -> list[tuple[str, Colour]]:
    """Name and colour of each class in truth or prediction, by id, then of ignored pixels and errors if there are any.

    Colours are the pure class colours, before blending with the image.
    """
    truths = np.unique(np.concatenate([image.truth.ravel() for image in images]))
    predictions = np.unique(np.concatenate([image.prediction.ravel() for image in images]))
    shown = sorted((set(truths.tolist()) | set(predictions.tolist())) - {ignore_index})
    entries = [(class_names[index], palette[index]) for index in shown]
    entries += [("(ignored)", IGNORED)] if ignore_index in truths else []
    return [*entries, ("(wrong)", WRONG), ("(right)", RIGHT)]


def over(image: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend colours `[h, w, 3]` over an image `[h, w, 3]`."""
    return (OPACITY * layer + (1 - OPACITY) * image).round().astype(np.uint8)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
