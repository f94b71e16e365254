"""Coloured masks become classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.folder.colour_masks import decode_colour_mask
from datamodules.reading.errors import ImageError
from tests.datamodules.pictures import gradient, save


def test_each_colour_becomes_its_class(tmp_path: Path) -> None:
    colours = {(0, 0, 0): 0, (0, 0, 1): 1, (255, 255, 255): 255, (1, 0, 0): 2}
    pixels = np.array([[[0, 0, 1], [1, 0, 0]], [[255, 255, 255], [0, 0, 0]]], np.uint8)
    classes, orientation = decode_colour_mask(save(tmp_path / "m.png", pixels), colours)
    np.testing.assert_array_equal(classes, [[1, 2], [255, 0]])
    assert orientation == 1


def test_other_colours_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", gradient(8, 8))
    with pytest.raises(
        ImageError, match=r"m\.png: .* found \(0, 0, 128\), .* and 61 more \(was the mask once saved as JPEG\?\)"
    ):
        decode_colour_mask(path, {(1, 1, 1): 0})


def test_lossy_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"m\.jpg: expected a mask in a lossless format, found JPEG"):
        decode_colour_mask(save(tmp_path / "m.jpg", np.full((8, 8, 3), 1, np.uint8)), {(1, 1, 1): 0})


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)], ids=["grey", "colour"])
def test_deep_colours_are_refused_whose_stretch_would_depend_on_the_mask(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    """Values of 0 and 1 would become black and white, and those of a mask of ones alone black."""
    path = tmp_path / f"m.{suffix}"
    assert cv2.imwrite(str(path), np.full(shape, 1, np.uint16))
    with pytest.raises(ImageError, match=r"m\.\w+: expected colours of 8 bits a channel, found uint16; convert"):
        decode_colour_mask(path, {(0, 0, 0): 0, (255, 255, 255): 1})
