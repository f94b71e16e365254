"""TIFFs of satellites: bands plane by plane, without colours, or too many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from datamodules.reading import tiff as geotiff
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")


def written(path: Path, bands: np.ndarray, **layout: Any) -> Path:
    """Bands `[n, h, w]` as a TIFF."""
    n, h, w = bands.shape
    with rasterio.open(path, "w", driver="GTiff", count=n, height=h, width=w, dtype=bands.dtype, **layout) as file:
        file.write(bands)
    return path


def noise(bands: int, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(bands).integers(0, np.iinfo(dtype).max, (bands, 9, 7)).astype(dtype)


def stretched(bands: np.ndarray) -> np.ndarray:
    """`[3, h, w]` → `[h, w, 3]`, from its range to 0–255."""
    values = bands.transpose(1, 2, 0).astype(float)
    return (values - values.min()) * 255 / (values.max() - values.min())


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("colours", [{"photometric": "RGB"}, {}])
@pytest.mark.parametrize("compress", ["none", "lzw"])
def test_three_deep_bands(tmp_path: Path, interleave: str, colours: dict[str, str], compress: str) -> None:
    bands = noise(3)
    path = written(tmp_path / "a.tif", bands, interleave=interleave, compress=compress, **colours)
    np.testing.assert_allclose(read_image(path), stretched(bands), atol=0.51)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_marks_say_which_bands_are_the_colours(tmp_path: Path, interleave: str) -> None:
    bands = noise(5)
    path = written(tmp_path / "a.tif", bands, interleave=interleave)
    with rasterio.open(path, "r+") as file:  # near infrared, blue, green, red, another
        file.colorinterp = [rasterio.enums.ColorInterp[c] for c in ("undefined", "blue", "green", "red", "undefined")]
    np.testing.assert_allclose(read_image(path), stretched(bands[[3, 2, 1]]), atol=0.51)


def test_eight_bits_are_not_stretched(tmp_path: Path) -> None:
    bands = noise(3, np.uint8) // 2
    np.testing.assert_array_equal(read_image(written(tmp_path / "a.tif", bands)), bands.transpose(1, 2, 0))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_without_marks_are_not_guessed(tmp_path: Path, interleave: str) -> None:
    path = written(tmp_path / "a.tif", noise(5), interleave=interleave)
    with pytest.raises(
        ImageError, match=r"a\.tif: expected one band, three bands, .* found 5 without such tags; write"
    ):
        read_image(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", noise(3), interleave="band", photometric="RGB")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"a\.tif: expected an image, found a file that can't be read"):
        read_image(path)


def test_without_rasterio_planes_are_refused_not_misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.tif", noise(3), interleave="band", photometric="RGB")
    monkeypatch.setattr(geotiff, "is_installed", lambda: False)
    with pytest.raises(ImageError, match=r"a\.tif: expected interleaved channels, .*\[geo\]"):
        read_image(path)


def test_an_enormous_file_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path, side = tmp_path / "a.tif", 20_000
    layout = {"tiled": True, "compress": "deflate", "sparse_ok": True}  # no pixel is written
    with rasterio.open(path, "w", driver="GTiff", count=3, height=side, width=side, dtype="int16", **layout):
        pass
    with pytest.raises(UnidentifiedImageError), Image.open(path):
        pass
    with pytest.raises(ImageError, match=r"an image of at most 178,956,970 pixels, found one of 400,000,000; cut it"):
        read_image(path)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", np.nan), ("float32", -3.40282e38)])
def test_no_data_is_black_and_out_of_the_range(tmp_path: Path, interleave: str, dtype: str, nodata: float) -> None:
    bands = np.random.default_rng(0).integers(100, 300, (3, 9, 7)).astype(dtype)
    expected = stretched(bands)
    bands[:, 2, 3], expected[2, 3] = nodata, 0
    bands[:, 0, 0], expected[0, 0] = 100, 0  # the ends of the range
    bands[:, 0, 1], expected[0, 1] = 299, 255
    path = written(tmp_path / "a.tif", bands, interleave=interleave, nodata=nodata)
    np.testing.assert_allclose(read_image(path), expected, atol=1.5)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_nan_that_is_not_said_to_be_no_data_is_an_error_with_the_file(tmp_path: Path, interleave: str) -> None:
    bands = noise(3).astype(np.float32)
    bands[0, 1, 2] = np.nan
    path = written(tmp_path / "a.tif", bands, interleave=interleave)
    with pytest.raises(ImageError, match=r"a\.tif: expected an image, found .*NaN or infinite"):
        read_image(path)
