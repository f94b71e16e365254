"""DINOv2 pre-training of lightly-train on the CPU, for `ratios.py`; runs with a Python that has lightly-train.

Two global views, no local ones, the head's default widths with as many prototypes as this project's, random weights,
float32.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import lightly_train
from lightly_train._commands import train_helpers
from pace import Pace
from pytorch_lightning import Callback


class Paced(Callback):
    """Lets the parent process control the steps."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_batch_start(self, *_: Any) -> None:
        self.pace.before()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.pace.after(float(outputs["loss"]))


def main() -> None:
    """Train, round by round, until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--prototypes", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="of a round")
    options = parser.parse_args()
    pace, trainer = Pace(options.steps), train_helpers.Trainer

    def paced(**arguments: Any) -> Any:
        return trainer(**{**arguments, "callbacks": [*arguments["callbacks"], Paced(pace)]})

    train_helpers.Trainer = paced
    with tempfile.TemporaryDirectory() as folder:
        lightly_train.pretrain(
            out=f"{folder}/out", data=options.images, model=options.model, method="dinov2", epochs=100_000,
            batch_size=options.batch, num_workers=0, devices=1, accelerator="cpu", precision="32-true",
            method_args={"output_dim": options.prototypes},
            transform_args={"image_size": (options.side, options.side), "local_view": None},
            loggers={"tensorboard": None},
        )  # fmt: skip


if __name__ == "__main__":
    main()
