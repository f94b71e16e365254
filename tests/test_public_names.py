"""Names, paths and keys that users type keep working."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule
from src import Backbone, ContinualPretraining, SemanticSegmentation, load_backbone
from src.commands.study import parser as study_parser
from src.config.keys import fit_keys
from src.config.suggestions import misspelt
from src.pretraining.teacher import Teacher
from tests.command_line import ROOT, pretraining, segmentation, written

EXPERIMENTS = {
    "pretrain": {
        **dict.fromkeys(("ade20k", "cityscapes", "cwfid", "folder", "loveda", "pascal_context"), "glare"),
        **dict.fromkeys(("camvid", "scenes"), "diet dino dino-lora-gram full glare ibot udi"),
    },
    "segment": {
        **dict.fromkeys(
            ("ade20k", "camvid", "cityscapes", "cwfid", "folder", "loveda", "pascal_context", "scenes"),
            "linear semantic_fpn upernet",
        ),
    },
    "": {
        "studies": "adapters camvid camvid-data-efficiency camvid-decoders camvid-settings classification efficiency "
        "inits losses main patch-augmentation quickstart real-images regions",
        "sweeps": "camvid-linear glare-lr",
    },
}  # fmt: skip
PATHS = [
    f"experiments/{kind}/{folder}/{name}.yaml".replace("//", "/")
    for kind, folders in EXPERIMENTS.items()
    for folder, names in folders.items()
    for name in names.split()
]
SHARED = ("root", "size", "batch_size", "class_names", "ignored_ids", "train_images", "val_images", "max_images")
DATA = {
    "scenes.ScenesDataModule": ("size", "batch_size", "train_images", "val_images", "max_images"),
    "folder.FolderDataModule": ("root", "size", "batch_size", "class_names", "ignored_ids", "max_images"),
    "camvid.CamVidDataModule": ("root", "size", "batch_size", "max_images"),
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_of_experiments(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    "key",
    [
        "model.init_args.backbone.init_args.name", "model.init_args.backbone.init_args.weights",
        "model.init_args.backbone.init_args.adapter", "model.init_args.adapter", "model.init_args.head",
        "model.init_args.objectives.local.init_args.weight", "model.init_args.optimisation.lr",
        "monitor.every_n_steps", "trainer.max_steps", "trainer.default_root_dir",
    ],
)  # fmt: skip
def test_keys_of_a_pre_training(key: str, tmp_path: Path) -> None:
    config = written(tmp_path / "x.yaml", pretraining(tmp_path))
    assert misspelt(["--config", config, f"--{key}=1"], fit_keys()) is None


@pytest.mark.parametrize("key", ["decoder", "lr", "backbone.init_args.adapter"])
def test_keys_of_a_segmentation(key: str, tmp_path: Path) -> None:
    config = written(tmp_path / "x.yaml", segmentation(tmp_path))
    assert misspelt(["--config", config, f"--model.init_args.{key}=1"], fit_keys()) is None


@pytest.mark.parametrize("module", DATA)
def test_keys_of_data(module: str, tmp_path: Path) -> None:
    config = written(tmp_path / "x.yaml", pretraining(tmp_path))
    flags = [f"--data.init_args.{key}=1" for key in DATA[module]]
    assert misspelt(["--config", config, f"--data=datamodules.{module}", *flags], fit_keys()) is None
    assert {key for keys in DATA.values() for key in keys} == set(SHARED)


def test_options_of_a_study() -> None:
    words = ["x.yaml", "--runs", "r", "--only", "glare", "--seed", "0", "--dry-run", "--max-hours", "1"]
    options = study_parser().parse_args(words)
    assert (options.runs, options.only, options.seed) == (Path("r"), ["glare"], [0])
    assert options.dry_run and options.max_hours == 1


def test_names_in_python(tmp_path: Path) -> None:
    assert {"backbone", "adapter", "head", "objectives"} <= inspect.signature(ContinualPretraining).parameters.keys()
    assert {"backbone", "decoder", "lr"} <= inspect.signature(SemanticSegmentation).parameters.keys()
    assert isinstance(load_backbone("test_vit", weights="none"), Backbone)
    assert callable(Backbone.adapters_off) and callable(Teacher.update)
    for name, kind in (("images", "RGB"), ("masks", "L")):
        (tmp_path / name).mkdir()
        for index in range(2):
            pixels = np.full((8, 8, 3) if kind == "RGB" else (8, 8), index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    (tmp_path / "train.txt").write_text("0\n")
    (tmp_path / "val.txt").write_text("1\n")
    data = FolderDataModule(tmp_path, class_names=["a", "b"], size=8, task="segment", num_workers=0)
    image, mask = data.source("val").pair(0)
    assert image.shape == (8, 8, 3) and mask.shape == (8, 8)
