"""Pictures of features, attention, regions, matches and neighbours, written to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from src.backbones.adapted import adapter_file
from src.backbones.adapter_file import read_metadata
from src.backbones.backbone import load_backbone
from src.config.prerequisites import check_writable
from src.core.atomic_files import make_folder, replacing
from src.core.checkpoint_files import load_checkpoint
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import UserError
from src.core.printable import printable
from src.explanation.explaining import Explainer
from src.pretraining.regions import RegionalAttention

AT_MOST = 8  # evenly spaced images of a folder to draw (our choice)
PREFIX = "teacher.network.context."  # prefix of the cross-attention's weights in a checkpoint


def draw(images: Sequence[Path], adapter: Path, weights: str, out: Path, trust: Sequence[str] = ()) -> None:
    """Write the pictures and print a line for each.

    Args:
        images: Image files, or folders of which at most `AT_MOST` images are drawn.
        adapter: An `adapter.safetensors`, or the run folder that holds it.
        weights: The weights that it was trained on, as in `load_backbone`.
        out: Folder of the pictures.
        trust: Packages that may be imported for a third-party adapter kind.

    Raises:
        MissingFile, UserError: With the image, adapter or weights that cannot be used.
    """
    check_writable(out, "--out")
    files = [file for path in images for file in (spread(path) if path.is_dir() else [path])]
    adapter = adapter_file(adapter)
    metadata = read_metadata(adapter)
    backbone = load_backbone(metadata["backbone"], weights, str(adapter), trust=trust)
    pixels = [read_image(path) for path in files]
    print(f"adapter  {backbone.adapter} in {backbone.name}, step {metadata['step']}")
    context = teacher_context(adapter, backbone.width)
    if context is None:
        print(
            f"no cross-attention found with {adapter} (checkpoints/last.ckpt keeps it, an adapter file does not): "
            "regions use the identity, as at the start of training"
        )
    make_folder(out)
    for found in Explainer(backbone, context).explain(pixels):
        path = out / f"{found.name}.png"
        with replacing(path) as part:
            found.picture.save(part)
        print(printable(f"{path}  {found.spoken}"))


def spread(folder: Path) -> list[Path]:
    """At most `AT_MOST` evenly spaced images of a folder and its subfolders; prints a note if there are more."""
    found = list_images(folder)
    if len(found) <= AT_MOST:
        return found
    print(printable(f"{folder}: {AT_MOST} of its {len(found)} images are drawn; list files to choose others"))
    return [found[round(place * (len(found) - 1) / (AT_MOST - 1))] for place in range(AT_MOST)]


def teacher_context(adapter: Path, width: int) -> RegionalAttention | None:
    """The teacher's regional cross-attention from the run of `adapter`, or None if there is none.

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
