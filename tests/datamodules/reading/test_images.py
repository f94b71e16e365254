"""Decoding of image and mask files of every kind, and the errors for broken ones."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.reading import heif
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from datamodules.reading.masks import IGNORE, mask_ids, read_mask
from tests.datamodules.pictures import gradient, save


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".PNG"])
def test_lossless_formats_give_the_pixels_that_were_written(tmp_path: Path, suffix: str) -> None:
    pixels = gradient(13, 17)
    path = tmp_path / f"ein Bild ü{suffix}"
    Image.fromarray(pixels).save(path, lossless=True) if suffix == ".webp" else save(path, pixels)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_jpeg_gives_nearly_the_pixels_that_were_written(tmp_path: Path) -> None:
    pixels = gradient(32, 32)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - pixels).max() <= 8


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(gradient(8, 8)).save(tmp_path / "really.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "really.jpg"), gradient(8, 8))


def test_greyscale_is_repeated(tmp_path: Path) -> None:
    grey = gradient(8, 9)[..., 1]
    np.testing.assert_array_equal(read_image(save(tmp_path / "g.png", grey)), np.stack([grey] * 3, -1))


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", bits))[..., 0], [[255, 0], [0, 255]])


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = gradient(8, 9)
    alpha = np.full((8, 9, 1), 7, np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", np.concatenate([pixels, alpha], -1))), pixels)


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\xff\x80"])
def test_a_palette_gives_its_colours(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "p.png", **({} if transparency is None else {"transparency": transparency}))
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)


def test_cmyk_becomes_the_rgb_it_prints(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "c.jpg").astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_by_their_range_and_never_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    grey = read_image(save(tmp_path / f"g{suffix}", values))
    np.testing.assert_array_equal(grey[..., 0], [[0, 64], [128, 255]])  # (v − 1000) · 255 / 4000
    colour = np.stack([values, values, values - 500], -1)  # blue, green, red for OpenCV
    cv2.imwrite(str(tmp_path / f"c{suffix}"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / f"c{suffix}")[0, 0], [0, 28, 28])  # one range for all channels
    np.testing.assert_array_equal(read_image(tmp_path / f"c{suffix}")[1, 1], [227, 255, 255])


def test_a_constant_sixteen_bit_image_keeps_its_share_of_full_scale(tmp_path: Path) -> None:
    path = save(tmp_path / "c.png", np.full((4, 4), 32768, np.uint16))
    assert (read_image(path) == 128).all()


def test_float_images_are_scaled_and_nan_is_refused(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.0], [1.0, 3.0]], np.float32)
    np.testing.assert_array_equal(read_image(save(tmp_path / "f.tif", values))[..., 0], [[0, 64], [128, 255]])
    values[0, 0] = np.nan
    with pytest.raises(ImageError, match=r"n\.tif.*NaN"):
        read_image(save(tmp_path / "n.tif", values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = gradient(6, 9)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "o.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "o.png"), upright)


def test_a_broken_exif_block_is_no_error(tmp_path: Path) -> None:
    Image.fromarray(gradient(8, 8)).save(tmp_path / "e.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(read_image(tmp_path / "e.png"), gradient(8, 8))


def test_truncated_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a b.jpg", "c.png", "d.webp"):
        data = save(tmp_path / name, noise).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=rf"{name}: expected an image, found .*; replace or remove"):
            read_image(tmp_path / name)
    data = save(tmp_path / "deep.png", noise[..., 0].astype(np.uint16) * 256).read_bytes()
    (tmp_path / "deep.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"deep\.png: expected an image"):
        read_image(tmp_path / "deep.png")


def test_files_that_are_no_images_are_named_with_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    for name, found in {
        "empty": "an empty file",
        "text": "can't be read",
        "folder": "a folder",
        "gone": "no file",
    }.items():
        path = next(tmp_path.glob(f"{name}.*"), tmp_path / f"{name}.png")
        with pytest.raises(ImageError, match=f"{name}.*{found}"):
            read_image(path)


def test_an_enormous_image_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")


def test_lists_are_recursive_sorted_and_without_hidden_or_excluded_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/.hidden.png", ".git/x.png", "masks/m.png", "a/masks/n.tiff", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, exclude=frozenset({"masks"}))]
    assert found == ["a/masks/n.tiff", "a/z.png", "b.JPG"]


def test_linked_subfolders_are_not_entered_and_counted_once(tmp_path: Path) -> None:
    save(tmp_path / "own.png", gradient(4, 4))
    for name in ("b", "a/loop", ".hidden", "masks"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            assert list_images(tmp_path, exclude=frozenset({"masks"})) == [tmp_path / "own.png"]
    (warned,) = caught
    assert f"{tmp_path}: linked subfolders are not followed; found 2, such as a/loop; to use" in str(warned.message)


def test_an_empty_folder_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"expected images .*\.jpg.* found none"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        list_images(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="found a file"):
        list_images(tmp_path / "file")


def test_masks_are_mapped_by_id(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[1, 2], [7, 255]], np.uint8))
    np.testing.assert_array_equal(read_mask(path, {1: 0, 2: 1, 7: 2, 255: IGNORE}), [[0, 1], [2, 255]])
    assert mask_ids(path) == {1, 2, 7, 255}


def test_palette_masks_give_indices_and_equal_channels_one_id(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 0]], np.uint8)
    palette = Image.fromarray(ids, mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "p.png")
    wide = save(tmp_path / "w.png", ids.astype(np.uint16))
    three = save(tmp_path / "t.png", np.stack([ids] * 3, -1))
    for path in (tmp_path / "p.png", wide, three):
        np.testing.assert_array_equal(read_mask(path, {0: 0, 1: 1, 2: 2}), ids)


def test_one_bit_masks_hold_0_and_1(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[True, False], [False, True]]))
    np.testing.assert_array_equal(read_mask(path, {0: 5, 1: 3}), [[3, 5], [5, 3]])
    assert mask_ids(path) == {0, 1}


def test_alpha_is_no_matter_where_masks_are_opaque(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 0]], np.uint8)
    alpha = np.full((2, 2), 255, np.uint8)
    for name, channels in (("grey", [ids, alpha]), ("three", [ids, ids, ids, alpha])):
        path = save(tmp_path / f"{name}.png", np.stack(channels, -1))
        np.testing.assert_array_equal(read_mask(path, {0: 0, 1: 1, 2: 2}), ids)
    alpha[0, 0] = 254
    for name, channels in (("LA", [ids, alpha]), ("RGBA", [ids, ids, ids, alpha]), ("RGBA", [ids, ids, ids, ids])):
        with pytest.raises(ImageError, match=f"one channel of class ids, found mode {name}"):
            mask_ids(save(tmp_path / "m.png", np.stack(channels, -1)))
    same = np.full((2, 2), 255, np.uint8)  # equal to an opaque alpha, and a mask all the same
    assert mask_ids(save(tmp_path / "m.png", np.stack([same, same], -1))) == {255}


def test_ids_outside_the_classes_are_named_with_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 3], [9, 255]], np.uint8))
    with pytest.raises(ImageError, match=r"m\.png: expected ids 0–3, found 9, 255 as well"):
        read_mask(path, {0: 0, 1: 1, 2: 2, 3: 3})


def test_coloured_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"m\.png: expected a mask with one channel of class ids, found mode RGB"):
        read_mask(save(tmp_path / "m.png", gradient(4, 4)), {0: 0})


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_is_read_by_the_extra_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    picture = pillow_heif.from_pillow(Image.fromarray(gradient(64, 96)))
    picture.save(tmp_path / name, quality=100, format="HEIF")
    assert np.abs(read_image(tmp_path / name).astype(int) - gradient(64, 96)).max() < 16


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_without_the_extra_heic_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: False)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ImageError, match=rf"{name}: expected an image, found HEIC, .*glare-lightning\[heic\]"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jfif", "ppm", "gif", "jp2"])
def test_less_common_formats_are_read(tmp_path: Path, suffix: str) -> None:
    pixels = np.kron([[10, 200], [90, 40]], np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / f"a.{suffix}", "JPEG" if suffix == "jfif" else None)
    assert list_images(tmp_path) == [tmp_path / f"a.{suffix}"]
    assert np.abs(read_image(tmp_path / f"a.{suffix}")[..., 1].astype(int) - pixels).max() <= 3


def test_deep_formats_of_cameras_keep_their_levels(tmp_path: Path) -> None:
    values = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3)
    for name in ("a.jp2", "a.ppm"):
        cv2.imwrite(str(tmp_path / name), values[..., ::-1])  # OpenCV's order of colours
        np.testing.assert_allclose(read_image(tmp_path / name), values * (255 / values.max()), atol=0.51)
