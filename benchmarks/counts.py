"""Count operations and memory of a step by trainable parameters, independent of the machine.

    python benchmarks/counts.py

Per image of two views: operations of the student's backbone (forward and backward), of the teacher's forward, and
activations kept for backward. Head and losses are the same for all rows and left out.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from src.backbones.adapters import Adapter, Full, LastBlocks, LoRA, UniAdapter
from src.backbones.adapters.low_rank_layer import LowRankUpdate
from src.backbones.backbone import Backbone

EVERYWHERE = ("q", "k", "v", "proj", "fc1", "fc2")


def kinds(depth: int) -> dict[str, Adapter]:
    """The rows."""
    last = {f"UniAdapter, last {count} blocks": depth - depth * count // 12 for count in (8, 6, 4)}
    return {
        "everything": Full(),
        "UniAdapter": UniAdapter(),
        **{name: UniAdapter(first_block=first) for name, first in last.items()},
        "LoRA on q and v": LoRA(),
        "LoRA on every linear layer": LoRA(16, 16.0, EVERYWHERE),
        "LoRA on every linear layer, by its weight": LoRA(16, 16.0, EVERYWHERE),
        "the last 2 blocks whole": LastBlocks(2),
    }


def added(self: Any, first: Any, second: Any, *_: Any, **__: Any) -> int:
    """FLOPs of a product that is added in place, from the shapes of its arguments."""
    return int(2 * first[0] * first[1] * second[1])


def counted(backbone: Backbone, images: torch.Tensor) -> tuple[float, float]:
    """GFLOP of forward and backward, and MiB kept for backward, parameters left out."""
    parameters = {parameter.data_ptr() for parameter in backbone.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added})
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(images).patches.sum().backward()
    backbone.zero_grad()
    return counter.get_total_flops() / 1e9, sum(kept.values()) / 2**20


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_small_patch14_dinov2")
    parser.add_argument("--side", type=int, default=168, help="of a view, pixels")
    options = parser.parse_args(arguments)
    backbone = Backbone(options.model, "none")
    images = torch.rand(2, 3, options.side, options.side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(images)
    forward = counter.get_total_flops() / 1e9
    on_tokens = LowRankUpdate.on_tokens
    print("| what learns | student, GFLOP | with the teacher | against everything | kept, MiB | against everything |")
    print("| --- | --- | --- | --- | --- | --- |")
    whole: tuple[float, float] | None = None
    for name, kind in kinds(backbone.depth).items():
        backbone.install(kind)
        LowRankUpdate.on_tokens = False if "by its weight" in name else on_tokens  # type: ignore[assignment]
        products, kept = counted(backbone, images)
        LowRankUpdate.on_tokens = on_tokens
        backbone.uninstall()
        total = products + forward
        whole = whole or (total, kept)
        print(
            f"| {name} | {products:.1f} | {total:.1f} | {whole[0] / total:.2f} × less | {kept:.0f} | "
            f"{kept / whole[1]:.2f} × |"
        )


if __name__ == "__main__":
    main()
