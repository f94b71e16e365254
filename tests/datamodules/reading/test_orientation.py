"""EXIF orientation × pixel mode × format: images and masks become upright once, and agree."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datamodules.folder.colour_masks import decode_colour_mask
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.masks import read_mask
from datamodules.reading.orientation import upright
from datamodules.reading.sources import Files
from tests.datamodules.pictures import gradient, save

IDS = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
LABELS = {int(i): int(i) for i in IDS.ravel()}
TIFFS = ("raw.tif", "tiff_lzw.tif", "big.tif")


def stored(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Upright pixels as a camera stores them: the reverse of what EXIF's table tells a viewer to do."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(turned[orientation](pixels))


def write(path: Path, pixels: NDArray[np.generic], orientation: int, palette: bool = False) -> Path:
    """Upright pixels in a file that names an orientation; `NAME.tif` is compressed by NAME."""
    image = Image.fromarray(stored(pixels, orientation))
    if palette:
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if path.suffix != ".tif":
        image.save(path, exif=exif)
        return path
    image.save(
        path,
        tiffinfo={274: orientation},
        big_tiff=path.stem == "big",
        compression=None if path.stem in ("raw", "big") else path.stem,
    )
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["m.png", *TIFFS])
@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "RGB"])
def test_masks_are_turned_as_their_images(tmp_path: Path, orientation: int, name: str, mode: str) -> None:
    if mode == "I" and name == "m.png":
        pytest.skip("PNG has no 32 bits")
    ids = {"I;16": IDS.astype(np.uint16), "I": IDS.astype(np.int32), "RGB": np.stack([IDS] * 3, -1)}.get(mode, IDS)
    path = write(tmp_path / name, ids, orientation, palette=mode == "P")
    np.testing.assert_array_equal(read_mask(path, LABELS), IDS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["m.png", *TIFFS])
@pytest.mark.parametrize("mode", ["L", "P", "I;16", "F", "RGB", "RGB;16"])
def test_images_are_turned_once(tmp_path: Path, orientation: int, name: str, mode: str) -> None:
    if mode == "F" and name == "m.png":
        pytest.skip("PNG has no floats")
    upright_pixels = gradient(6, 9)
    grey = upright_pixels[..., 1]
    path, expected = tmp_path / name, np.stack([grey] * 3, -1)
    if mode == "RGB;16":
        if name != "m.png":
            rasterio_like(path, upright_pixels.astype(np.uint16) * 257, orientation)
        else:
            plain = tmp_path / "plain.png"
            cv2.imwrite(str(plain), stored(upright_pixels[..., ::-1].astype(np.uint16) * 257, orientation))
            add_png_orientation(plain, path, orientation)
        expected = upright_pixels
    elif mode == "P":
        write(path, IDS, orientation, palette=True)
        expected = np.stack([IDS, 255 - IDS, np.full_like(IDS, 7)], -1)
    else:
        pixels = {"L": grey, "I;16": grey.astype(np.uint16) * 257, "F": grey.astype(np.float32), "RGB": upright_pixels}
        write(path, pixels[mode], orientation)
        expected = upright_pixels if mode == "RGB" else expected
    np.testing.assert_array_equal(read_image(path), expected)


def rasterio_like(path: Path, pixels: NDArray[np.uint16], orientation: int) -> None:
    """16-bit colours in a TIFF, which Pillow does not write."""
    tifffile = pytest.importorskip("tifffile")
    compression = None if path.stem in ("raw", "big") else "zlib"
    tifffile.imwrite(
        path, stored(pixels, orientation), photometric="rgb", bigtiff=path.stem == "big", compression=compression,
        extratags=[(274, "H", 1, orientation, True)],
    )  # fmt: skip


def add_png_orientation(source: Path, target: Path, orientation: int) -> None:
    """The chunk that Pillow would write; Pillow itself would cut the colours to 8 bits."""
    import zlib

    exif = Image.Exif()
    exif[0x0112] = orientation
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    content = source.read_bytes()
    target.write_bytes(content[:33] + chunk + content[33:])  # after the signature and IHDR


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_and_colour_masks_too(tmp_path: Path, orientation: int) -> None:
    blocks = np.kron(IDS[:2, :3] * 40, np.ones((16, 16), np.uint8)).astype(np.uint8)
    path = write(tmp_path / "a.jpg", blocks, orientation)
    assert np.abs(read_image(path)[..., 0].astype(int) - blocks).max() < 12
    colours = np.stack([IDS, IDS, np.zeros_like(IDS)], -1)
    mask = write(tmp_path / "m.png", colours, orientation)
    np.testing.assert_array_equal(decode_colour_mask(mask, {(i, i, 0): i for i in LABELS})[0], IDS)


def test_upright_is_a_view() -> None:
    for orientation in range(1, 9):
        assert np.shares_memory(upright(IDS, orientation), IDS)


def photographs(root: Path, turned: int, mask_turned: int, as_stored: bool = False) -> Files:
    images = [write(root / f"{i}.png", gradient(6, 9), turned) for i in range(2)]
    ids = stored(IDS, turned) if as_stored else IDS
    masks = [write(root / f"m{i}.png", ids, mask_turned) for i in range(2)]
    return Files(root, images, masks, LABELS)


def test_photographs_that_alone_have_an_orientation_are_warned_of_once(tmp_path: Path) -> None:
    files = photographs(tmp_path, 6, 1)
    with pytest.warns(UserWarning, match="photographs have an EXIF orientation and their masks have none") as caught:
        pairs = [files.pair(i) for i in range(2)]
    assert len(caught) == 1
    np.testing.assert_array_equal(pairs[0][1], IDS)  # drawn on the photograph as it is shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photographs(tmp_path, 6, 6).pair(0)
        photographs(tmp_path, 1, 1).pair(0)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_that_orientation_explains_is_not_to_be_resized(tmp_path: Path, orientation: int) -> None:
    with pytest.raises(ImageError, match=r"the image is turned by its EXIF orientation .*, the mask is not") as error:
        photographs(tmp_path, orientation, 1, as_stored=True).pair(0)
    assert "resize" not in str(error.value) and "exiftool -Orientation=" in str(error.value)
    save(tmp_path / "m0.png", np.zeros((5, 9), np.uint8))
    files = Files(tmp_path, [tmp_path / "0.png"], [tmp_path / "m0.png"], LABELS)
    with pytest.raises(ImageError, match="resize masks without interpolation"):
        files.pair(0)
