"""Memory kept by the sources."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from datamodules.reading import sources
from datamodules.reading.reduction import sufficient_side
from datamodules.reading.sources import Cached, Files, Subset, cache, shrink
from datamodules.transforms.multi_crop import ASPECT
from tests.datamodules.pictures import gradient, save


def test_cached_images_are_no_smaller_than_the_smallest_crop_needs(tmp_path: Path) -> None:
    files = Files(
        tmp_path, [save(tmp_path / "wide.png", gradient(100, 300)), save(tmp_path / "low.png", gradient(40, 90))]
    )
    kept = Cached(files, side=50)
    assert kept.image(0).shape == (50, 150, 3)
    np.testing.assert_array_equal(kept.image(1), files.image(1))


@pytest.mark.parametrize(("share", "side"), [(0.25, 50), (0.04, 125), (1.0, 25)])
def test_the_smallest_crop_of_a_sufficient_image_has_more_pixels_than_a_view(share: float, side: int) -> None:
    assert sufficient_side(20, share) == side
    assert side * (share / ASPECT[1]) ** 0.5 > 20


def test_shrinking_keeps_the_picture() -> None:
    small = shrink(gradient(200, 300), 50)
    assert small.shape == (50, 75, 3)
    assert np.abs(small[2:-2, 2:-2].astype(int) - gradient(50, 75)[2:-2, 2:-2]).max() <= 3


def test_files_are_decoded_once_if_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path, [save(tmp_path / f"{i}.png", gradient(16, 16)) for i in range(3)])
    kept = cache(files, side=40)
    (tmp_path / "1.png").unlink()
    np.testing.assert_array_equal(kept.image(1), gradient(16, 16))


def test_sets_beyond_the_bound_are_left_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path, [save(tmp_path / f"{i}.png", gradient(100, 100)) for i in range(3)])
    monkeypatch.setattr(sources, "CACHE_BYTES", 3 * 50 * 50 * 3)
    assert isinstance(cache(files, side=50), Cached)  # three images of 50 × 50
    monkeypatch.setattr(sources, "CACHE_BYTES", 3 * 50 * 50 * 3 - 1)
    with caplog.at_level(logging.INFO):
        assert cache(files, side=50) is files
    assert "3 images would take" in caplog.text
    monkeypatch.setattr(sources, "CACHE_BYTES", 3 * 100 * 100 * 4 - 1)  # masks count as well
    assert cache(files) is files


def test_a_part_keeps_names_and_order(tmp_path: Path) -> None:
    files = Files(tmp_path, [save(tmp_path / f"{i}.png", np.full((4, 4, 3), i, np.uint8)) for i in range(4)])
    part = Subset(files, [3, 1])
    assert [part.name(i) for i in range(len(part))] == ["3.png", "1.png"]
    assert [int(part.image(i).max()) for i in range(2)] == [3, 1]
    assert int(part.pair(0)[0].max()) == 3
