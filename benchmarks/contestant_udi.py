"""UDI's own training loop (ISL-CV/udi) on the processor, for `ratios.py`: its code, driven step by step.

Its script needs CUDA and several processes; these calls are replaced by equivalents on one CPU. Networks, views, losses
and the order of a step are unchanged.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pace import Pace
from torch import Tensor, nn


class OneProcess(nn.Module):
    """Replace DistributedDataParallel of one process by the module itself."""

    def __init__(self, module: nn.Module, **_: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.module(*inputs, **options)


def on_the_processor(folder: Path) -> None:
    """Disable calls to CUDA, and start a group of one process."""

    def same(held: Any, *_: Any, **__: Any) -> Any:
        return held

    nn.Module.cuda = same  # type: ignore[method-assign]
    Tensor.cuda = same  # type: ignore[method-assign]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    torch.hub.list = lambda *_, **__: []  # accesses the network
    nn.parallel.DistributedDataParallel = OneProcess  # type: ignore[misc, assignment]
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)


def main() -> None:
    """Train, round by round, until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("images", type=Path, help="a folder of folders of images")
    parser.add_argument("--steps", type=int, required=True, help="of a round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--local", type=int, default=10)
    parser.add_argument("--prototypes", type=int, default=8192)
    options = parser.parse_args()
    on_the_processor(options.images)
    sys.path.insert(0, str(options.checkout))
    utils, udi = importlib.import_module("utils"), importlib.import_module("main_udi")
    pace = Pace(options.steps)

    def paced(self: Any, loader: Any, *_: Any) -> Iterator[Any]:
        while True:
            for batch in loader:
                pace.before()
                yield batch
                pace.after(self.meters["loss"].value)

    utils.MetricLogger.log_every = paced
    utils.init_distributed_mode = lambda arguments: setattr(arguments, "gpu", 0)
    settings = {
        "data_path": options.images, "output_dir": options.images, "use_fp16": "false", "num_workers": 0,
        "batch_size_per_gpu": options.batch, "out_dim": options.prototypes, "local_crops_number": options.local,
    }  # fmt: skip
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    udi.train_udi(udi.get_args_parser().parse_args(flags))


if __name__ == "__main__":
    main()
