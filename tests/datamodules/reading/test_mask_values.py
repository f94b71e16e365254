"""Masks of every type that tools write: signed, wide, floating, with negative ids; each value is checked."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule
from datamodules.folder.summary import summarise
from datamodules.reading import tiff as geotiff
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE, mask_ids, read_mask
from tests.datamodules.pictures import gradient, save

tifffile = pytest.importorskip("tifffile")

SIGNED = ("int8", "int16", "int32", "int64", "float32", "float64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def mask(path: Path, dtype: str, unlabelled: int) -> Path:
    ids = np.array([[0, 1, 2], [unlabelled, 2, 0]], np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, ids.astype(dtype))
    return path


def needs_rasterio(dtype: str) -> None:
    if dtype.endswith("64"):
        pytest.importorskip("rasterio")


@pytest.mark.parametrize("unlabelled", [-1, -100])
@pytest.mark.parametrize("dtype", SIGNED)
def test_negative_ids_are_ids_like_others(tmp_path: Path, dtype: str, unlabelled: int) -> None:
    needs_rasterio(dtype)
    path = mask(tmp_path / "m.tif", dtype, unlabelled)
    assert mask_ids(path) == {0, 1, 2, unlabelled}
    read = read_mask(path, {0: 0, 1: 1, 2: 2, unlabelled: IGNORE})
    assert read.dtype == np.uint8 and read.tolist() == [[0, 1, 2], [IGNORE, 2, 0]]
    with pytest.raises(ImageError, match=rf"m\.tif: expected ids 0–2, found {unlabelled} as well; if {unlabelled} "):
        read_mask(path, {0: 0, 1: 1, 2: 2})


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_ids_of_any_width(tmp_path: Path, dtype: str) -> None:
    needs_rasterio(dtype)
    most = int(min(np.iinfo(dtype).max, 2**62))
    path = mask(tmp_path / "m.tif", dtype, most)
    assert mask_ids(path) == {0, 1, 2, most}
    assert read_mask(path, {0: 0, 1: 1, 2: 2, most: IGNORE}).tolist() == [[0, 1, 2], [IGNORE, 2, 0]]


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -3.4028235e38])
def test_floats_that_are_no_ids_are_named(tmp_path: Path, value: float) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, value, value]], np.float32))
    with pytest.raises(ImageError, match=r"m\.tif: expected class ids, which are whole numbers, found .* and 1 more"):
        mask_ids(tmp_path / "m.tif")


@pytest.mark.parametrize("most", [3, 255, 300])
def test_a_grey_map_gives_its_own_values(tmp_path: Path, most: int) -> None:
    width = ">u2" if most > 255 else "u1"
    (tmp_path / "m.pgm").write_bytes(b"P5\n# ids\n3 1\n%d\n" % most + np.array([0, 1, most], width).tobytes())
    assert mask_ids(tmp_path / "m.pgm") == {0, 1, most}


def test_a_long_comment_in_a_grey_map_costs_no_time(tmp_path: Path) -> None:
    (tmp_path / "m.pgm").write_bytes(b"P5" + b" #" * 1500 + b"\n3 1\n255\n" + bytes([0, 1, 7]))
    assert mask_ids(tmp_path / "m.pgm") == {0, 1, 7}


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_ids_and_no_shades(tmp_path: Path, depth: int) -> None:
    rows = [[0, 1, 0, 1], [2**depth - 1, 0, 1, 0]]
    packed = [sum(value << (8 - depth * (i + 1)) for i, value in enumerate(row[: 8 // depth])) for row in rows]
    rest = [sum(value << (8 - depth * (i + 1)) for i, value in enumerate(row[8 // depth :])) for row in rows]
    data = b"".join(bytes([0, p]) + (bytes([r]) if depth == 4 else b"") for p, r in zip(packed, rest, strict=True))
    header = struct.pack(">IIBBBBB", 4, 2, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert read_mask(tmp_path / "m.png", {i: i for i in range(16)}).tolist() == rows


def test_ids_are_stored_values_where_0_is_shown_white(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, 1, 2]], np.uint8), photometric="miniswhite")
    assert mask_ids(tmp_path / "m.tif") == {0, 1, 2}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_colours_are_no_ids_cut_to_eight_bits(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"m.{suffix}"), np.full((4, 4, 3), 2, np.uint16))  # Pillow reads zeros
    with pytest.raises(ImageError, match="found RGB with 16 bits a channel; convert it to one channel"):
        mask_ids(tmp_path / f"m.{suffix}")


def test_without_rasterio_wide_masks_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mask(tmp_path / "m.tif", "int64", 3)
    monkeypatch.setattr(geotiff, "is_installed", lambda: False)
    with pytest.raises(ImageError, match=r"m\.tif: expected a mask of 8, 16 or 32 bits, .*\[geo\]"):
        mask_ids(path)


def test_colour_masks_say_which_lines_name_their_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[[0, 255, 0], [255, 0, 0]]], np.uint8))
    with pytest.raises(ImageError, match=r"classes\.yaml .* `- \{name: …, colour: \[0, 255, 0\]\}` and `"):
        mask_ids(path)


@pytest.mark.parametrize("name", ["m.jp2", "m.jfif"])
def test_formats_that_change_ids_are_refused(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name, "JPEG2000" if name == "m.jp2" else "JPEG")
    with pytest.raises(ImageError, match="lossless format, found JPEG"):
        mask_ids(tmp_path / name)


def folder(root: Path, dtype: str, unlabelled: int) -> Path:
    for i in range(6):
        save(root / "images" / f"{i}.png", gradient(8, 8))
        ids = np.full((8, 8), unlabelled, np.int64)
        ids[:4, :4] = [0, 1, 2, 2]  # a quarter is labelled
        (root / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(root / "masks" / f"{i}.tif", ids.astype(dtype))
    return root


@pytest.mark.parametrize("unlabelled", [-1, -100])
@pytest.mark.parametrize("named", [True, False])
def test_a_folder_with_negative_no_data(tmp_path: Path, named: bool, unlabelled: int) -> None:
    root = folder(tmp_path, "int16", unlabelled)
    names = ["a", "b", "c"] if named else None
    data = FolderDataModule(root, names, ignored_ids=(unlabelled,), task="segment", size=8, cache=False)
    assert data.ids == [0, 1, 2]
    lines = summarise("train", data.read("train"), data.class_names).splitlines()  # type: ignore[arg-type]
    assert [line.split()[-1] for line in lines[2:5]] == ["25.00%", "25.00%", "50.00%"]
    assert lines[5] == "  of labelled pixels; 75.00% are ignored"
    with pytest.raises(ImageError, match=rf"0\.tif: .* found {unlabelled}.* ignored_ids: \[{unlabelled}, 255\]"):
        FolderDataModule(root, names, task="segment", size=8).source("train")
    (root / "classes.yaml").write_text(
        "".join(f"- {{name: {name}, id: {i}}}\n" for i, name in enumerate("abc"))
        + f"- {{name: none, id: {unlabelled}, ignore: true}}\n"
    )
    listed = FolderDataModule(root, task="segment", size=8, cache=False)
    assert (listed.read("val").pair(0)[1] == IGNORE).mean() == 0.75


def test_ids_too_large_to_predict_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"0\.tif: expected class ids from 0 to 65535, found 70000"):
        _ = FolderDataModule(folder(tmp_path, "int32", 70_000), task="segment").ids
