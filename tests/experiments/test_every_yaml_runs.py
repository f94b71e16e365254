"""Every configuration of a fit runs two steps, through the real command line, on a tiny ViT and tiny data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from src.cli import main as run
from tests.command_line import ROOT

FITS = sorted(
    path
    for path in (ROOT / "experiments").rglob("*.yaml")
    if "model" in (yaml.safe_load(path.read_text()) or {}) and "studies" not in path.parts
)
TINY = [
    "--model.init_args.backbone.init_args.name=test_vit",
    "--model.init_args.backbone.init_args.weights=none",
    "--data.init_args.batch_size=2",
    "--data.init_args.size=32",
    "--data.init_args.workers=0",
    "--trainer.max_epochs=-1",
    "--trainer.max_steps=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def write_images(folder: Path) -> None:
    """Four pairs of 40×48 for training and two for validation; the ids 0 to 2 are classes of every data set."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(256, size=(40, 48, 3), dtype=np.uint8)).save(
                folder / "images" / split / f"{index}.png"
            )
            Image.fromarray(rng.integers(3, size=(40, 48), dtype=np.uint8)).save(
                folder / "masks" / split / f"{index}.png"
            )


def test_there_are_configurations() -> None:
    assert len(FITS) >= 7


@pytest.mark.parametrize("path", FITS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_two_steps(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("camvid", "cwfid", "folder"):
        write_images(tmp_path / name)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("IMAGES", str(tmp_path / "folder"))
    text = path.read_text()
    small = ["--data.init_args.side=64", "--data.init_args.train_images=4", "--data.init_args.val_images=2"]
    head = ["--model.init_args.head.init_args.prototypes=16", "--model.init_args.head.init_args.hidden=16"]
    arguments = [*TINY, *(small if "ScenesDataModule" in text else []), *(head if "ProjectionHead" in text else [])]
    command = run(["fit", "--config", str(path), f"--trainer.default_root_dir={tmp_path / 'run'}", *arguments])
    assert command.trainer.global_step == 2
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "adapter.safetensors").is_file() == ("ContinualPretraining" in text)


@pytest.mark.parametrize("path", FITS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_the_header_says_purpose_command_and_cost(path: Path) -> None:
    header = path.read_text().split("\nseed_everything")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"python -m src fit --config {path.relative_to(ROOT)}" in header
    assert re.search(r"\d+ (?:seconds|minutes|hours)", header), "no cost"
