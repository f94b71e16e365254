"""Coloured masks become classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.folder.colour_masks import read_colour_mask
from datamodules.reading.errors import ImageError
from tests.datamodules.pictures import gradient, save


def test_each_colour_becomes_its_class(tmp_path: Path) -> None:
    colours = {(0, 0, 0): 0, (0, 0, 1): 1, (255, 255, 255): 255, (1, 0, 0): 2}
    pixels = np.array([[[0, 0, 1], [1, 0, 0]], [[255, 255, 255], [0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(read_colour_mask(save(tmp_path / "m.png", pixels), colours), [[1, 2], [255, 0]])


def test_other_colours_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", gradient(8, 8))
    with pytest.raises(
        ImageError, match=r"m\.png: .* found \(0, 0, 128\), .* and 61 more \(was the mask once saved as JPEG\?\)"
    ):
        read_colour_mask(path, {(1, 1, 1): 0})


def test_lossy_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"m\.jpg: expected a mask in a lossless format, found JPEG"):
        read_colour_mask(save(tmp_path / "m.jpg", np.full((8, 8, 3), 1, np.uint8)), {(1, 1, 1): 0})
