"""This project's training step, of the working tree or of an earlier commit, for `ratios.py`.

It runs in the root of the tree to measure. Ready batches of random images; the loader is measured by itself.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

import torch
from lightning.pytorch import Callback, Trainer
from pace import Pace
from torch.utils.data import DataLoader

from datamodules.views import Crops, Views

TRAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniadapter": ("UniAdapter", {}),
    "lora": ("LoRA", {"rank": 16, "alpha": 16.0, "targets": ("q", "k", "v", "proj", "fc1", "fc2")}),
    "everything": ("Full", {}),
}


class Paced(Callback):
    """Lets the parent process control the steps."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.pace.before()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.pace.after(float(outputs["loss"]))


def found(name: str, *modules: str) -> Any:
    """Import a class from the first of its module paths that exists in this commit."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    raise SystemExit(f"{name}: expected it in one of {', '.join(modules)}, found none in {Path.cwd()}")


def objectives(targets: str) -> dict[str, Any]:
    """GLARE's three terms, with the small-run preset's targets or with a centre."""
    homes = ("src.pretraining.consistency", "src.objectives.consistency")
    terms = {name: found(f"{name.title()}Consistency", *homes) for name in ("global", "regional", "local")}
    if targets == "centring":
        return {name: term() for name, term in terms.items()}
    balance = found("SinkhornKnopp", "src.pretraining.targets", "src.objectives.targets")
    preset = {"global": {"centre_tokens": True, "targets": balance(temperature=0.03)}}
    return {name: term(**preset.get(name, {"targets": balance()})) for name, term in terms.items()}


def module_of(options: argparse.Namespace) -> Any:
    """The model, past every warm-up."""
    torch.manual_seed(0)
    kind, sizes = TRAINS[options.trains]
    sizes = sizes | ({"first_block": options.first_block} if options.first_block else {})
    return found("ContinualPretraining", "src.pretraining")(
        found("Backbone", "src.backbones.backbone", "src.models.backbone")(options.model, options.weights),
        found(kind, "src.backbones.adapters", "src.models.adapters")(**sizes),
        partial(
            found("ProjectionHead", "src.pretraining.projection_head", "src.models.projection"),
            hidden=options.hidden,
            prototypes=options.prototypes,
        ),
        objectives(options.targets),
        optimisation=found("Optimisation", "src.pretraining.optimisation", "src.optimisation")(
            lr=1e-3, lr_batch=None, head_warmup=0.0, freeze_last_layer=0
        ),
    )


def crops(options: argparse.Namespace) -> Crops:
    """Views of random images."""
    generator = torch.Generator().manual_seed(0)

    def views(count: int, side: int) -> Views:
        shape = (count, options.batch, 3, side, side)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        corners = torch.rand(count, options.batch, 2, generator=generator) * 0.4
        flips = torch.rand(count, options.batch, generator=generator) < 0.5
        return Views(images, torch.cat((corners, corners + 0.6), dim=-1), flips)

    local = views(options.local, options.local_side) if options.local else None
    return Crops(views(2, options.side), local, torch.arange(options.batch), torch.zeros(options.batch).long())


def main() -> None:
    """Train, round by round, until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, required=True, help="of a round")
    parser.add_argument("--model", default="vit_small_patch14_dinov2")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--trains", choices=TRAINS, default="uniadapter")
    parser.add_argument("--first-block", type=int, default=0)
    parser.add_argument("--targets", choices=("centring", "sinkhorn"), default="centring")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--prototypes", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=168)
    parser.add_argument("--local", type=int, default=0)
    parser.add_argument("--local-side", type=int, default=96)
    parser.add_argument("--precision", default="32-true")
    options = parser.parse_args()
    pace = Pace(options.steps)
    trainer = Trainer(
        max_steps=100_000, accelerator="cpu", devices=1, precision=options.precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=Paced(pace), log_every_n_steps=50,
    )  # fmt: skip
    batches: DataLoader[Any] = DataLoader([crops(options)] * 100_000, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module_of(options), batches)


if __name__ == "__main__":
    main()
