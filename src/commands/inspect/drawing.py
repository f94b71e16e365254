"""Pictures of features, attention, regions, matches and neighbours, written to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.reading.images import read_image
from src.backbones.adapter_file import read_metadata
from src.backbones.backbone import load_backbone
from src.core.atomic_files import make_folder, replacing
from src.core.checkpoint_files import load_checkpoint
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import UserError
from src.core.printable import printable
from src.explanation.explaining import Explainer
from src.pretraining.regions import RegionalAttention

PREFIX = "teacher.network.context."  # of the cross-attention's weights in a checkpoint


def draw(images: Sequence[Path], adapter: Path, weights: str, out: Path, trust: Sequence[str] = ()) -> None:
    """Write the pictures and print a line for each.

    Args:
        images: Image files.
        adapter: An `adapter.safetensors`.
        weights: The weights that it was made on, as in `load_backbone`.
        out: Folder of the pictures.
        trust: Packages that may be imported for an adapter kind that is not of this project.

    Raises:
        MissingFile, UserError: Naming the image, adapter or weights that cannot be used.
    """
    pixels = [read_image(path) for path in images]
    metadata = read_metadata(adapter)
    backbone = load_backbone(metadata["backbone"], weights, str(adapter), trust=trust)
    print(f"adapter  {backbone.adapter} in {backbone.name}, step {metadata['step']}")
    context = teacher_context(adapter, backbone.width)
    if context is None:
        print(
            f"no cross-attention found with {adapter} (an adapter file holds the adapter alone, "
            "checkpoints/last.ckpt all of it): regions use the identity that training starts from"
        )
    make_folder(out)
    for found in Explainer(backbone, context).explain(pixels):
        path = out / f"{found.name}.png"
        with replacing(path) as part:
            found.picture.save(part)
        print(printable(f"{path}  {found.spoken}"))


def teacher_context(adapter: Path, width: int) -> RegionalAttention | None:
    """The teacher's regional cross-attention out of the run that left `adapter`, or None where there is none.

    Raises:
        UserError: if the checkpoint next to the adapter cannot be read, or has another width and so belongs to
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
