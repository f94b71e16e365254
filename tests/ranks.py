"""Run by test_ranks.py in processes of its own: a short fit whose losses, centres and parameters go to a file.

    python -m tests.ranks FILE PROCESSES TARGETS [CHECKPOINT]

A checkpoint of step 2 is left beside the file, from which another one, of any number of processes, may resume.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor, distributed

from datamodules.scenes import ScenesDataModule
from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.core.distributed import ranks, sum_over_ranks
from src.pretraining import ContinualPretraining
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, Objective, RegionalConsistency
from src.pretraining.distillation import MultiScaleDistillation
from src.pretraining.instance_discrimination import InstanceDiscrimination
from src.pretraining.optimisation import Optimisation
from src.pretraining.targets import Centring, SinkhornKnopp, Uncentred
from tests.tiny import TINY, tiny_head


class Recorded(ContinualPretraining):
    """Keeps the loss of each step, averaged over ranks."""

    losses: list[float]
    logged: list[float]

    def training_step(self, *inputs: object) -> Tensor:
        loss = super().training_step(*inputs)  # type: ignore[arg-type]
        self.losses.append(float(sum_over_ranks(loss.detach())) / ranks())
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        self.logged.append(float(self.trainer.callback_metrics["train/loss"]))
        if "train/target_entropy/local" in self.trainer.callback_metrics:
            self.logged.append(float(self.trainer.callback_metrics["train/target_entropy/local"]))


class SaveAt(Callback):
    """Writes a checkpoint after two steps."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.file)


def main(target: Path, devices: int, kind: str, resume: Path | None = None) -> None:
    """Fit three steps of 8 images, whatever the number of processes, in float64."""
    torch.set_num_threads(1)
    seed_everything(0)
    make = {"centring": Centring, "sinkhorn": SinkhornKnopp}.get(kind, Uncentred)
    calibrated = functools.partial(CalibratedHead, prototypes=16, hidden=24 if kind == "calibrated" else 0)
    alone: dict[str, dict[str, Objective]] = {
        "distillation": {"distillation": MultiScaleDistillation(scales=(1.0, 1.5))},
        "instance": {"instance": InstanceDiscrimination()},
    }
    module = Recorded(
        Backbone(TINY, "none"),
        UniAdapter(rank=4),
        calibrated if kind in ("calibrated", "distillation") else tiny_head(),
        alone[kind]
        if kind in alone
        else {
            "global": GlobalConsistency(targets=make(temperature=0.02), centre_tokens=True),
            "regional": RegionalConsistency(targets=make()),
            "local": LocalConsistency(targets=make(), distorted_only=True, patches=3),
        },
        optimisation=Optimisation(lr=1e-2, lr_batch=16, warmup=0.0, head_warmup=0.4, freeze_last_layer=0, momentum=0.5),
    )
    module.losses, module.logged = [], []
    data = ScenesDataModule(
        task="pretrain",
        batch_size=8,
        size=32,
        train_images=24,
        side=64,
        local_views=1,
        local_size=32,
        num_workers=0,
    )
    trainer = Trainer(
        max_steps=3, log_every_n_steps=1,
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", precision="64-true",
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[] if resume else [SaveAt(target.with_suffix(".ckpt"))],
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if trainer.is_global_zero:
        state = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
        lists = {"losses": module.losses, "logged": module.logged}
        torch.save({**{name: torch.tensor(v, dtype=torch.float64) for name, v in lists.items()}, **state}, target)
    if distributed.is_initialized():
        distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]) if len(sys.argv) > 4 else None)
