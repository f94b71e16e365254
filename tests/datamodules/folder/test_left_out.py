"""Whatever is left out of a folder, or of a file, is counted and named in the first summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule
from datamodules.folder.summary import summarise
from datamodules.reading import heif
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.sources import Files
from datamodules.reading.stretching import Stretch
from tests.coloured_blocks import trainer
from tests.datamodules.pictures import gradient, labelled_folder, save


def report(root: Path, run: Path, **shared: Any) -> list[str]:
    data = FolderDataModule(root, size=8, num_workers=0, **shared)
    data.trainer = trainer(run)
    data.setup("fit")
    return (run / "data.txt").read_text().splitlines()


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    picture = gradient(16, 16)
    for i in range(2):
        save(root / f"{i}.jpg", picture)
        for suffix in ("jfif", "ppm", "pgm", "gif", "jp2"):
            grey = Image.fromarray(picture if suffix != "pgm" else picture[..., 0])
            grey.save(root / f"{i}_{suffix}.{suffix}", format="JPEG" if suffix == "jfif" else None)
        (root / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        np.save(root / f"{i}.npy", picture)
    lines = report(root, tmp_path / "run", on_error="skip")
    if heif.is_installed():
        assert "train: 14 images" in lines and f"left out of {root}: 2 .npy" in lines
    else:
        assert "train: 12 images" in lines and "  problems: none" in lines
        hint = "2 .heic (pip install 'glare-lightning[heic]' to read them)"
        assert f"left out of {root}: {hint}, 2 .npy" in lines


def test_images_and_masks_without_a_place_or_a_partner_are_counted(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path / "data", train=3, val=2)
    assert not any("left out" in line for line in report(root, tmp_path / "a", task="segment"))
    save(root / "photos" / "b.png", gradient(8, 8))
    save(root / "masks" / "train" / "alone.png", np.zeros((8, 8), np.uint8))
    (root / "classes.yaml").write_text("- {name: a, id: 0}\n- {name: b, id: 1}\n- {name: c, id: 2}\n")
    found = "2 images or masks in other folders or without a counterpart, masks/train/alone.png first"
    assert report(root, tmp_path / "b", task="segment")[-1] == f"left out of {root}: {found}"
    lines = report(root, tmp_path / "c")  # pre-training asks for no masks
    assert lines[-2] == "held out for validation: 2 images"
    assert lines[-1].endswith("1 images or masks in other folders or without a counterpart, photos/b.png first")


def test_more_folders_are_looked_at_too(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", gradient(8, 8))
    save(tmp_path / "b" / "0.png", gradient(8, 8))
    (tmp_path / "b" / "0.raw").touch()
    lines = report(tmp_path / "a", tmp_path / "run", extra=[tmp_path / "b"])
    assert lines[-1] == f"left out of {tmp_path / 'b'}: 1 .raw"


def test_prediction_says_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "0.png", gradient(8, 8))
    (tmp_path / "0.raw").touch()
    FolderDataModule(tmp_path, ["a"], task="segment", predict_on=tmp_path).predict_source()
    assert f"{tmp_path}: predicting 1 images; left out: 1 .raw" in caplog.text


def test_parts_of_files_that_are_not_used_are_counted(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    rgba = np.concatenate([gradient(8, 8), np.full((8, 8, 1), 255, np.uint8)], -1)
    files = [save(tmp_path / "opaque.png", rgba)]
    rgba[0, 0, 3] = 0
    files.append(save(tmp_path / "see-through.png", rgba))
    frames = [Image.fromarray(gradient(8, 8) // n) for n in (1, 2, 3)]
    for name in ("a.gif", "b.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        files.append(tmp_path / name)
    tifffile.imwrite(tmp_path / "near-infrared.tif", rgba, photometric="rgb", extrasamples=[0])
    tifffile.imwrite(tmp_path / "two.tif", rgba[..., :2], photometric="minisblack", planarconfig="contig")
    files += [tmp_path / "near-infrared.tif", tmp_path / "two.tif"]
    with tifffile.TiffWriter(tmp_path / "overview.tif") as pyramid:  # smaller copies are no pages
        pyramid.write(gradient(8, 8), photometric="rgb")
        pyramid.write(gradient(4, 4), photometric="rgb", subfiletype=1)
    files.append(tmp_path / "overview.tif")
    lines = [line for line in summarise("train", Files(tmp_path, files), []).splitlines() if "not used" in line]
    assert lines == [
        "  not used: transparency (alpha) (1 image, see-through.png)",
        "  not used: frames or pages after the first (2 images, a.gif first)",
        "  not used: bands other than colours (2 images, near-infrared.tif first)",
    ]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_levels_lost_to_one_extreme_value_are_said_and_can_be_kept(tmp_path: Path, suffix: str, colour: bool) -> None:
    import cv2

    values = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)) // 4 + 100
    pixels = np.stack([values] * 3, -1) if colour else values
    cv2.imwrite(str(tmp_path / f"good.{suffix}"), pixels)
    pixels = pixels.copy()
    pixels[5, 5] = 65535
    cv2.imwrite(str(tmp_path / f"hot.{suffix}"), pixels)
    files = [tmp_path / f"good.{suffix}", tmp_path / f"hot.{suffix}"]
    text = summarise("train", Files(tmp_path, files), [])
    assert f"set percentiles: [1, 99] or range (1 image, hot.{suffix})" in text and text.count("not used") == 1
    for stretch in (Stretch(percentiles=(1, 99)), Stretch(range=(100, 1123))):
        assert "not used" not in summarise("train", Files(tmp_path, files, stretch=stretch), [])
        good, hot = (read_image(path, stretch) for path in files)
        keep = np.ones((64, 64), bool)
        keep[5, 5] = False
        np.testing.assert_allclose(good[keep].astype(int), hot[keep].astype(int), atol=1)
        assert (hot[5, 5] == 255).all()


def test_a_fixed_range_is_the_same_for_all_images(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 1000], [2000, 9000]], np.uint16))
    assert read_image(path, Stretch(range=(0, 2000)))[..., 0].tolist() == [[0, 128], [255, 255]]
    assert read_image(path, Stretch(range=(1000, 3000)))[..., 0].tolist() == [[0, 0], [128, 255]]


def test_the_arguments_reach_every_image(tmp_path: Path) -> None:
    values = np.full((16, 16), 1000, np.uint16)
    for name in ("a/0.png", "b/0.png", "c/0.png"):
        save(tmp_path / name, values)
    shared: dict[str, Any] = {"size": 8, "range": (0, 2000), "extra": [tmp_path / "b"], "predict_on": tmp_path / "c"}
    data = FolderDataModule(tmp_path / "a", **shared)
    sources = [data.source("train"), data.predict_source()]
    images = [source.image(i) for source in sources for i in range(len(source))]
    assert len(images) == 3 and all((image == 128).all() for image in images)


LABELS = {
    "annotations/instances.json": ('{"images": [], "annotations": [], "categories": []}', "COCO annotations"),
    "labels/0.txt": ("0 0.1 0.1 0.5 0.5 0.3 0.8\n1 0.5 0.5 0.2 0.2\n", "YOLO labels"),
    "images/0.json": ('{"version": "5", "shapes": [], "imagePath": "0.png"}', "labelme polygons"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_no_masks_are_recognised(tmp_path: Path, name: str) -> None:
    content, kind = LABELS[name]
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", gradient(8, 8))
    (tmp_path / "notes.txt").write_text("7 days in 2020\n")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(
        ImageError, match=f"expected masks .* found .*{name}, which holds {kind}; convert these to masks"
    ):
        _ = FolderDataModule(tmp_path, task="segment").class_names
    with pytest.raises(FileNotFoundError, match=f"a mask for each image .*{name}, which holds {kind}; convert these"):
        FolderDataModule(tmp_path, ["a"], task="segment").source("train")


@pytest.mark.parametrize(
    "content",
    [
        "1 1024 768 12.25 3400\n" * 1000 + "end\n",
        "0 " + "1024 768 " * 5000 + "aeroplane",
        "0 0.1 0.1 0.5\n",
        "x 1 2 3 4\n",
    ],
    ids=["last line", "last word", "too few", "no class"],
)
def test_numbers_that_are_no_labels_are_told_apart_at_once(tmp_path: Path, content: str) -> None:
    save(tmp_path / "images" / "0.png", gradient(8, 8))
    (tmp_path / "numbers.txt").write_text(content)
    with pytest.raises(ImageError, match=r"expected masks .* found none; give class_names"):
        _ = FolderDataModule(tmp_path, task="segment").class_names


def test_names_of_files_do_not_drive_the_terminal(tmp_path: Path) -> None:
    root = tmp_path / "data"
    save(root / "0.png", gradient(8, 8))
    (root / "\x1b[31mred\n.png").write_bytes(b"no image")
    (root / "x.\x1b[2J").touch()
    lines = report(root, tmp_path / "run", on_error="skip")
    assert lines[-1] == rf"left out of {root}: 1 .\x1b[2j"
    assert lines[-2].startswith(rf"    {root}/\x1b[31mred\n.png: expected an image")
    with pytest.raises(ImageError) as error:
        FolderDataModule(root, size=8).source("train")
    assert rf"{root}/\x1b[31mred\n.png" in str(error.value) and "\x1b" not in str(error.value)
