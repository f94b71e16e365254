"""Log pictures that explain adapted features: run folder, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.backbones.backbone import Backbone
from src.core.atomic_files import make_folder, replacing, write_text
from src.core.errors import UserError
from src.explanation.explaining import Explainer, Explanation
from src.pretraining import ContinualPretraining


@runtime_checkable
class HasImages(Protocol):
    """A data module that gives single training images."""

    def source(self, split: str) -> Any:
        """Images with a length and `image(index)`, RGB `[H, W, 3]`."""


class Explanations(Callback):
    """Draws the teacher's features of a few training images, evenly spread over the set, at the end of a pre-training.

    The adapter is drawn at the strength at which it is saved; of a run that a guard stopped, it is that of the last
    step, which shows what broke, and not the earlier one that is saved.

    Writes `explanations/<name>.png` and, with titles and alternative texts,
    `explanations/explanations.json` into the run folder; logs each as `explanations/<name>`. Other modules, and data
    without single images, are skipped. Uses no random number of the run.

    Args:
        count: Number of images; our choice.
    """

    def __init__(self, count: int = 2) -> None:
        if count < 1:
            raise UserError(f"Explanations: expected a count of at least 1, found {count}")
        self.count = count

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, write, log."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, ContinualPretraining) or not isinstance(data, HasImages):
            return
        if trainer.fast_dev_run or not _finite(pl_module.teacher.network.backbone):  # type: ignore[attr-defined]
            return  # NaN cannot be drawn, and is reported by the guards
        source = data.source("train")
        places = np.linspace(0, len(source) - 1, min(self.count, len(source))).round().astype(int).tolist()
        network = pl_module.teacher.network
        images = [source.image(place) for place in places]
        with network.backbone.at_strength(pl_module.strength):
            show(trainer, Explainer(network.backbone, network.context).explain(images))


def _finite(backbone: Backbone) -> bool:
    return all(bool(backbone.get_parameter(name).isfinite().all()) for name in backbone.adapter_names)


def show(trainer: Trainer, explanations: Iterable[Explanation]) -> None:
    """Write and log pictures."""
    folder = Path(trainer.default_root_dir) / "explanations"
    make_folder(folder)
    texts = []
    for item in explanations:
        with replacing(folder / f"{item.name}.png") as part:
            item.picture.save(part)
        texts.append({"file": f"{item.name}.png", "title": item.title, "spoken": item.spoken})
        for logger in trainer.loggers:
            name = f"explanations/{item.name}"
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, np.asarray(item.picture), trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image(name, [item.picture], caption=[item.spoken])
    write_text(folder / "explanations.json", json.dumps(texts, indent=2, ensure_ascii=False) + "\n")
