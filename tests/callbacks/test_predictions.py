"""``python -m src predict`` on folders: which files it writes, what is in them, and what it refuses to replace."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.__main__ import main
from src.callbacks.predictions import half_covered
from tests.command_line import segmentation, with_arguments, written
from tests.datamodules.pictures import gradient, labelled_folder, save

FOLDER = {
    "class_path": "datamodules.folder.FolderDataModule",
    "init_args": {
        "task": "segment",
        "class_names": ["a", "b", "c"],
        "ignored_ids": [0, 2],
        "size": 32,
        "num_workers": 0,
    },
}
SLIDING = {"class_path": "src.segmentation.inference.SlidingWindow", "init_args": {"crop": 32, "stride": 16}}


def predict(folder: Path, images: Path, *words: str, **arguments: Any) -> int:
    """Predicts a folder at native sizes, window by window, after one step of a fit on the ids 1, 3 and 4."""
    config = segmentation(folder / "run", max_steps=1, limit_val_batches=0)
    if not (folder / "run/checkpoints/last.ckpt").is_file():
        config["data"] = with_arguments(FOLDER, root=str(labelled_folder(folder / "labelled")))
        assert main(["fit", "--config", written(folder / "fit.yaml", config)]) == 0
    config["data"] = with_arguments(FOLDER, root=str(images), predict_on=str(images), evaluation="native", **arguments)
    config["model"] = with_arguments(config["model"], inference=SLIDING)
    return main(["predict", "--config", written(folder / "predict.yaml", config), "--ckpt_path", "last", *words])


def mixed(root: Path) -> Path:
    """Sizes below, at and above a window, in nested folders; two share a stem."""
    for name, size in {"a.png": (5, 9), "b/a.jpg": (32, 32), "b/a.png": (40, 70), "b/c d/ü.tif": (33, 20)}.items():
        save(root / name, gradient(*size))
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    assert predict(folder, mixed(folder / "images"), "--predictions.probabilities", "true") == 0
    return folder


def test_names_and_folders_are_kept(done: Path) -> None:
    found = {path.relative_to(done / "run/predictions").as_posix() for path in done.glob("run/predictions/**/*.*")}
    names = ["a", "b/a.jpg", "b/a.png", "b/c d/ü"]
    assert found == {"classes.json", "head.json"} | {
        f"{kind}/{name}{suffix}"
        for kind, suffix in (("masks", ".png"), ("overlays", ".png"), ("probabilities", ".npz"))
        for name in names
    }


@pytest.mark.parametrize(
    ("target", "image"), [("a", "a.png"), ("b/a.jpg", "b/a.jpg"), ("b/a.png", "b/a.png"), ("b/c d/ü", "b/c d/ü.tif")]
)
def test_masks_hold_the_data_sets_own_ids_at_native_size(done: Path, target: str, image: str) -> None:
    output, pixels = done / "run/predictions", np.asarray(Image.open(done / "images" / image))
    ids = np.asarray(Image.open(output / "masks" / f"{target}.png"))
    with np.load(output / "probabilities" / f"{target}.npz") as stored:
        shares, names = stored["probabilities"].astype(float), stored["class_names"].tolist()
    assert shares.shape == (3, *pixels.shape[:2]) and names == ["a", "b", "c"]
    np.testing.assert_allclose(shares.sum(0), 1, atol=2e-3)
    classes = np.searchsorted([1, 3, 4], ids)
    np.testing.assert_array_equal(np.array([1, 3, 4])[classes], ids)
    chosen = np.take_along_axis(shares, classes[None], 0)[0]
    assert (chosen >= shares.max(0) - 1e-3).all()  # float16
    listed = json.loads((output / "classes.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in listed] == [1, 3, 4]
    colours = np.array([entry["colour"] for entry in listed])[classes]
    overlay = np.asarray(Image.open(output / "overlays" / f"{target}.png"))
    assert np.abs(overlay - (pixels + colours) / 2).max() <= 0.5


@pytest.mark.slow
def test_what_is_there_is_refused_skipped_or_overwritten_as_told(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = done / "images", done / "run/predictions/masks"
    before = {path: path.stat().st_mtime_ns for path in masks.rglob("*.png")}
    assert predict(done, images) == 1
    assert "holds predictions of 4 of these 4 images already, such as those of a.png" in capsys.readouterr().err
    os.remove(masks / "a.png")
    assert predict(done, images, "--predictions.existing", "skip") == 0
    assert "predicting 4 images" in (said := capsys.readouterr().err) and "3 of them there already: skip" in said
    after = {path: path.stat().st_mtime_ns for path in masks.rglob("*.png")}
    assert after.keys() == before.keys() and [path.name for path in before if before[path] != after[path]] == ["a.png"]
    assert predict(done, images, "--predictions.existing", "skip") == 0  # nothing left to do
    assert "4 of them there already: skip" in capsys.readouterr().err
    assert predict(done, images, "--predictions.existing", "overwrite") == 0
    assert all(path.stat().st_mtime_ns > after[path] for path in after)


def test_an_image_is_skipped_only_when_all_that_is_asked_for_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = tmp_path / "images", tmp_path / "run/predictions"
    for name in ("x.png", "y.png"):
        save(images / name, gradient(20, 24))
    assert predict(tmp_path, images, "--predictions.overlays", "false") == 0
    skip = ["--predictions.existing", "skip", "--predictions.probabilities", "true"]
    capsys.readouterr()
    assert predict(tmp_path, images, *skip) == 0
    assert "there already" not in capsys.readouterr().err  # all masks are, and nothing else
    assert {path.relative_to(output).as_posix() for path in output.rglob("*.*")} == {"classes.json", "head.json"} | {
        f"{kind}/{name}{suffix}"
        for kind, suffix in (("masks", ".png"), ("overlays", ".png"), ("probabilities", ".npz"))
        for name in "xy"
    }
    assert predict(tmp_path, images, *skip) == 0
    assert "2 of them there already: skip" in capsys.readouterr().err


def test_a_folder_holds_the_predictions_of_one_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks = tmp_path / "images", tmp_path / "run/predictions/masks"
    for name in ("x.png", "y.png"):
        save(images / name, gradient(20, 24))
    assert predict(tmp_path, images, "--predictions.overlays", "false") == 0
    made_by = (masks.parent / "head.json").read_bytes()
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"] = {key: value + 1 for key, value in state["state_dict"].items()}
    del state["glare_content_hash"]
    torch.save(state, checkpoint)
    (masks / "x.png").unlink()
    for existing in ("skip", "refuse"):
        assert predict(tmp_path, images, "--predictions.existing", existing) == 1
        assert f"{masks.parent}: holds predictions of " in capsys.readouterr().err
        assert [path.name for path in masks.iterdir()] == ["y.png"]
    save(masks / "of another image.png", gradient(4, 4))
    assert predict(tmp_path, images, "--predictions.existing", "overwrite") == 0
    assert sorted(path.name for path in masks.iterdir()) == ["x.png", "y.png"]
    assert (masks.parent / "head.json").read_bytes() != made_by


def test_an_image_that_was_replaced_is_predicted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks = tmp_path / "images", tmp_path / "run/predictions/masks"
    for name in ("x.png", "y.png"):
        save(images / name, gradient(20, 24))
    assert predict(tmp_path, images) == 0
    before = {path.name: path.stat().st_mtime_ns for path in masks.iterdir()}
    later = before["x.png"] + 10**9
    os.utime(images / "x.png", ns=(later, later))
    assert predict(tmp_path, images, "--predictions.existing", "skip") == 0
    assert "1 of them there already: skip" in capsys.readouterr().err
    after = {path.name: path.stat().st_mtime_ns for path in masks.iterdir()}
    assert after["x.png"] > before["x.png"] and after["y.png"] == before["y.png"]


def test_output_and_ids_can_be_chosen(tmp_path: Path) -> None:
    save(tmp_path / "images/x.png", gradient(20, 24))
    options = ["--predictions.output", str(tmp_path / "out"), "--predictions.overlays", "false"]
    assert predict(tmp_path, tmp_path / "images", *options, "--predictions.ids", "classes") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks", "classes.json", "head.json"}
    assert np.isin(np.asarray(Image.open(tmp_path / "out/masks/x.png")), [0, 1, 2]).all()
    assert not (tmp_path / "run/predictions").exists()


def test_masks_are_never_written_where_images_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "my images"
    save(images / "x.png", gradient(20, 24))
    for options in ([], ["--data.init_args.predict_on", "null"]):
        assert predict(tmp_path, images, "--predictions.output", str(images / "out"), *options) == 1
        assert f"{images}/out: expected a folder outside {images}," in capsys.readouterr().err
        assert [path.name for path in images.iterdir()] == ["x.png"]


def test_images_that_do_not_say_their_classes_are_predicted_in_those_of_the_head(tmp_path: Path) -> None:
    save(tmp_path / "images/x.png", gradient(20, 24))
    assert predict(tmp_path, tmp_path / "images", class_names=None) == 0
    classes = json.loads((tmp_path / "run/predictions/classes.json").read_text(encoding="utf-8"))
    fitted = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["classes"]
    assert [entry["id"] for entry in classes] == fitted["ids"] == [1, 3, 4]
    assert [entry["name"] for entry in classes] == fitted["names"]
    assert set(np.unique(np.asarray(Image.open(tmp_path / "run/predictions/masks/x.png")))) <= {1, 3, 4}


@pytest.mark.parametrize("shape", [(1, 1), (700, 3), (3, 2**18 + 1), (130, 4099)])
def test_an_overlay_in_strips_is_that_of_the_whole(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, classes = rng.integers(256, size=(*shape, 3)).astype(np.uint8), rng.integers(4, size=shape).astype(np.uint8)
    colours = rng.integers(256, size=(4, 3)).astype(np.uint8)
    whole = np.ceil((image.astype(float) + colours[classes]) / 2)
    np.testing.assert_array_equal(half_covered(image, colours, classes), whole)


def test_a_broken_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/bad.png").write_text("no image")
    assert predict(tmp_path, tmp_path / "images") == 1
    assert "bad.png: expected an image" in capsys.readouterr().err


@pytest.mark.slow
def test_loveda_masks_come_with_their_official_names(tmp_path: Path) -> None:
    root = os.environ.get("DATA_ROOT")
    tiles = Path(root or "nowhere") / "loveda" / "Val" / "Rural" / "images_png"
    if not tiles.is_dir():
        pytest.skip("no LoveDA below DATA_ROOT")
    options = ["--predictions.ids", "classes", "--model.init_args.inference.init_args.crop", "512"]
    options += ["--model.init_args.inference.init_args.stride", "512"]
    assert predict(tmp_path, tiles, *options) == 0
    masks = sorted(path.name for path in (tmp_path / "run/predictions/masks").iterdir())
    assert masks == sorted(path.name for path in tiles.iterdir())
    ids = np.asarray(Image.open(tmp_path / "run/predictions/masks/1.png"))
    assert ids.shape == (1024, 1024) and ids.dtype == np.uint8 and set(np.unique(ids)) <= {0, 1, 2}
