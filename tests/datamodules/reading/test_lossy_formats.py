"""Masks in formats that change their ids are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.reading.errors import ImageError
from datamodules.reading.lossy_formats import refuse_lossy
from datamodules.reading.masks import mask_ids


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("a.jpg", {}, True),
        ("really.png", {"format": "JPEG"}, True),
        ("a.tif", {"compression": "jpeg"}, True),
        ("a.webp", {"lossless": False}, True),
        ("profile.webp", {"lossless": False, "icc_profile": b"odd"}, True),
        ("a.webp", {"lossless": True}, False),
        ("profile.webp", {"lossless": True, "icc_profile": b"odd"}, False),
        ("a.tif", {"compression": "tiff_lzw"}, False),
        ("a.png", {}, False),
        ("a.bmp", {}, False),
    ],
)
def test_lossy_masks_are_refused_whatever_their_suffix(
    tmp_path: Path, name: str, options: dict[str, Any], lossy: bool
) -> None:
    ids = np.zeros((16, 16, 3), np.uint8)
    ids[3:9, 3:9], ids[9:] = 1, 7
    path = tmp_path / name
    Image.fromarray(ids).save(path, **options)
    if lossy:
        with pytest.raises(ImageError, match=rf"{name}: expected a mask in a lossless format, .* labels as PNG"):
            mask_ids(path)
    else:
        assert mask_ids(path) == {0, 1, 7}


def test_what_is_no_image_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    refuse_lossy(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg: expected a mask, found a file that can't be read"):
        mask_ids(tmp_path / "a.jpg")
