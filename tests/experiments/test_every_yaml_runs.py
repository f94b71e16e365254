"""Every configuration of a fit runs two steps, through the real command line, on a tiny ViT and tiny data."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from src.cli import main as run
from src.config.yaml_reader import quoted, read
from tests.command_line import ROOT
from tests.datamodules import miniatures

EXPERIMENTS = ROOT / "experiments"
FITS = sorted([*EXPERIMENTS.glob("pretrain/*/*.yaml"), *EXPERIMENTS.glob("segment/*/*.yaml")])
FEW = (  # two steps need not decode a whole data set
    "--data.init_args.cache=false",
    "--data.init_args.label_fraction=0.1",
    "--trainer.limit_val_batches=2",
)
TINY = [
    "--model.init_args.backbone.init_args.name=test_vit",
    "--model.init_args.backbone.init_args.weights=none",
    "--data.init_args.batch_size=2",
    "--data.init_args.size=32",
    "--data.init_args.num_workers=0",
    "--trainer.max_epochs=-1",
    "--trainer.max_steps=2",
    "--trainer.check_val_every_n_epoch=null",
    "--trainer.val_check_interval=2",  # so that each runs its own inference, too
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def test_there_are_configurations() -> None:
    kinds = {path.relative_to(EXPERIMENTS).parts[:2] for path in FITS}
    assert kinds == {(task, data) for task in ("pretrain", "segment") for data in (*miniatures.WRITERS, "scenes")}


@pytest.mark.parametrize("path", FITS, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_two_steps(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = path.parent.name
    if name in miniatures.WRITERS:
        miniatures.WRITERS[name](tmp_path / name)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("IMAGES", str(tmp_path / "folder"))
    command = two_steps(path, tmp_path / "run")
    probe = path.stem == "in_context"  # takes no step and has no checkpoint
    assert command.trainer.global_step == (0 if probe else 2)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file() != probe
    assert (tmp_path / "run" / "adapter.safetensors").is_file() == ("pretrain" in path.parts)
    assert (tmp_path / "run" / "evaluation.json").is_file() == ("segment" in path.parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in FITS if path.parent.name in ("loveda", "camvid", "cwfid")],
    ids=lambda path: str(path.relative_to(EXPERIMENTS)),
)
def test_two_steps_on_real_images(path: Path, tmp_path: Path) -> None:
    name = path.parent.name
    if not (Path(os.environ.get("DATA_ROOT", "/nowhere")) / name).is_dir():
        pytest.skip(f"NOT TESTED ON REAL DATA: set DATA_ROOT to the folder that holds {name}")
    more = [*FEW] if "segment" in path.parts else []
    if name == "loveda" and path.stem in ("semantic_fpn", "semantic_fpn_udi", "upernet"):
        more += ["--model.init_args.decoder.init_args.norm=group"]  # a single tile to train on: too few for batch norm
    assert two_steps(path, tmp_path, *more).trainer.global_step == (0 if path.stem == "in_context" else 2)


def two_steps(path: Path, run_folder: Path, *more: str) -> Any:
    """Run a configuration's fit with a tiny backbone, head and crop."""
    text = quoted(read(path))
    small = ["--data.init_args.side=64", "--data.init_args.train_images=4", "--data.init_args.val_images=2"]
    head = ["--model.init_args.head.init_args.prototypes=16", "--model.init_args.head.init_args.hidden=16"]
    crop = ["--data.init_args.transforms.init_args.crop=32"]
    decoder = "--model.init_args.decoder.init_args"
    pyramid = [f"{decoder}.blocks=[1,2,3,5]", f"{decoder}.channels=8"]
    extra = {
        "ScenesDataModule": small,
        "ProjectionHead": head,
        "CalibratedHead": head,
        "TrainingTransforms": crop,
        "SemanticFPN": pyramid,
        "UPerNet": pyramid,
    }
    arguments = [*TINY, *(argument for word, some in extra.items() if word in text for argument in some), *more]
    return run(["fit", "--config", str(path), f"--trainer.default_root_dir={run_folder}", *arguments])


@pytest.mark.parametrize("path", FITS, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_the_header_says_purpose_command_and_cost(path: Path) -> None:
    header = path.read_text().split("\nextends")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"python -m src fit --config {path.relative_to(ROOT)}" in header
    assert re.search(r"\d+ (?:seconds|minutes|hours)", header), "no cost"
