"""LoveDA's own test images, predicted by the command line, come out as its server takes them."""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from src.__main__ import main
from src.callbacks.prediction_files import flat_targets
from tests.command_line import segmentation, written
from tests.datamodules import miniatures


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A head after one step on a miniature LoveDA with three test images, of both domains."""
    folder = tmp_path_factory.mktemp("loveda")
    root = miniatures.loveda(folder / "loveda", test=3)
    data = {"root": str(root), "task": "segment", "size": 32, "batch_size": 2, "num_workers": 0}
    settings = segmentation(folder / "run", max_steps=1, limit_val_batches=0)
    settings["data"] = {"class_path": "datamodules.loveda.LoveDADataModule", "init_args": data}
    path = written(folder / "x.yaml", settings)
    assert main(["fit", "--config", path]) == 0
    return path


def predict(config: str, output: Path, *words: str) -> int:
    return main(["predict", "--config", config, "--ckpt_path", "last", "--predictions.output", str(output), *words])


def test_masks_are_flat_hold_classes_and_are_zipped(config: str, tmp_path: Path) -> None:
    assert predict(config, tmp_path / "out") == 0
    assert predict(config, tmp_path / "by id", "--predictions.ids", "dataset") == 0
    names = {"6.png": "Urban", "7.png": "Rural", "8.png": "Urban"}
    assert {path.name for path in (tmp_path / "out/masks").iterdir()} == set(names)
    with ZipFile(tmp_path / "out/submission.zip") as archive:
        assert set(archive.namelist()) == set(names)
        for name, domain in names.items():
            with archive.open(name) as file:
                mask = np.asarray(Image.open(file))
            assert mask.shape == miniatures.SIDES and mask.dtype == np.uint8 and mask.max() <= 6
            ids = np.asarray(Image.open(tmp_path / "by id/masks/Test" / domain / "images_png" / name))
            np.testing.assert_array_equal(mask + 1, ids)
    assert not (tmp_path / "by id/submission.zip").exists()


def test_the_zip_is_never_that_of_older_masks(config: str, tmp_path: Path) -> None:
    assert predict(config, tmp_path) == 0
    os.remove(tmp_path / "submission.zip")  # as after a kill between the last mask and the zip
    assert predict(config, tmp_path, "--predictions.existing", "skip") == 0
    assert (tmp_path / "submission.zip").is_file()
    os.remove(tmp_path / "masks/7.png")
    for existing in ("skip", "overwrite"):
        none = ["--predictions.existing", existing, "--trainer.limit_predict_batches", "0"]
        assert predict(config, tmp_path, *none) == 0
        assert not (tmp_path / "submission.zip").exists()


def test_images_of_one_name_are_refused() -> None:
    assert flat_targets(["Rural/1.png", "Urban/2.png"]) == ["1", "2"]
    with pytest.raises(ValueError, match=r"found Rural/1\.png and Urban/1\.png; remove one"):
        flat_targets(["Rural/1.png", "Urban/1.png"])
