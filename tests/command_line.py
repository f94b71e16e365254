"""Configurations of tiny runs, and ways to run them through the real command line in this process."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

ROOT = Path(__file__).resolve().parents[1]
BACKBONE = {"class_path": "src.backbones.Backbone", "init_args": {"name": "test_vit", "weights": "none"}}
SCENES = {
    "class_path": "datamodules.scenes.ScenesDataModule",
    "init_args": {"train_images": 8, "val_images": 2, "side": 64, "batch_size": 4, "size": 32, "num_workers": 0},
}
TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "max_steps": 2,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


def pretraining(folder: Path, **trainer: Any) -> dict[str, Any]:
    """GLARE with all three levels on eight scenes of 64×64: four patches a view."""
    levels = {"global": "GlobalConsistency", "regional": "RegionalConsistency", "local": "LocalConsistency"}
    return {
        "seed_everything": 0,
        "trainer": {**TRAINER, "default_root_dir": str(folder), **trainer},
        "model": {
            "class_path": "src.pretraining.ContinualPretraining",
            "init_args": {
                "backbone": BACKBONE,
                "adapter": {"class_path": "src.backbones.adapters.UniAdapter", "init_args": {"rank": 2}},
                "head": {
                    "class_path": "src.pretraining.projection_head.ProjectionHead",
                    "init_args": {"prototypes": 16, "hidden": 16, "bottleneck": 8},
                },
                "objectives": {
                    name: {"class_path": f"src.pretraining.consistency.{level}", "init_args": {"weight": 1.0}}
                    for name, level in levels.items()
                },
                "optimisation": {"lr": 1e-2, "lr_batch": None},
            },
        },
        "data": with_arguments(SCENES, task="pretrain"),
        # tests of other things: an untrained backbone would set the guards off
        "monitor": {"every_n_steps": 0},
        "guards": {"patience": 0},
    }


def segmentation(folder: Path, **trainer: Any) -> dict[str, Any]:
    """A linear head on eight scenes, without batch normalisation."""
    head = {"class_path": "src.segmentation.decoders.linear.LinearDecoder", "init_args": {"batch_norm": False}}
    model = {
        "class_path": "src.segmentation.SemanticSegmentation",
        "init_args": {"backbone": BACKBONE, "decoder": head},
    }
    return {
        "seed_everything": 0,
        "trainer": {**TRAINER, "default_root_dir": str(folder), **trainer},
        "model": model,
        "data": with_arguments(SCENES, task="segment"),
    }


def with_arguments(node: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """A copy of a class_path/init_args pair with other arguments."""
    return {**node, "init_args": {**node["init_args"], **arguments}}


def written(path: Path, config: Mapping[str, Any]) -> str:
    """Writes a yaml; returns its path as an argument."""
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return str(path)


def losses(run_folder: Path, name: str = "train/loss") -> list[float]:
    """The logged values of a metric, in order."""
    with (run_folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's checkpoint."""
    return torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


class InterruptAt(Callback):
    """Presses Ctrl-C after a step, or within the first validation after it.

    Args:
        step: optimiser steps.
        during: what runs when it is pressed.
    """

    def __init__(self, step: int, during: str = "training") -> None:
        self.step = step
        self.during = during

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.during == "training" and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.during == "validation" and trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGINT)


class FailAt(Callback):
    """Fails after a step, as if memory ran out.

    Args:
        step: optimiser steps.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise MemoryError("out of memory")
