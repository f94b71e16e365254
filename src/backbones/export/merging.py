"""Copy a backbone with its adapter merged into the weights and its positions fitted to one image size."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from src.backbones.adapters.adapter import Adapter
from src.backbones.backbone import Backbone
from src.backbones.position_embedding import OriginalPositions, resample
from src.core.errors import UserError


def mergeable(backbone: Backbone) -> bool:
    """Return True if there is no adapter, or one that can be merged into the weights."""
    return backbone.adapter is None or type(backbone.adapter).merge is not Adapter.merge


def merged(backbone: Backbone, to: str) -> Backbone:
    """Return a frozen copy on the CPU, with the adapter merged into the weights.

    Args:
        backbone: With or without an adapter.
        to: The target, for the message.

    Raises:
        UserError: If the adapter's kind cannot be merged.
    """
    if not mergeable(backbone):
        raise UserError(
            f"--to {to} needs an adapter that merges into the weights, such as LoRA or SLR, found {backbone.adapter}, "
            "which is not linear in the tokens; use --to onnx or --to torch-export, which keep it as it is"
        )
    result = standalone(backbone)
    if result.adapter is not None:
        result.merge()
    return result


def standalone(backbone: Backbone) -> Backbone:
    """Return a frozen copy on the CPU, in float32 and evaluation mode."""
    result = copy.deepcopy(backbone).cpu().float().requires_grad_(False).eval()
    result.checkpoint_blocks = False
    return result


def fit_positions(trunk: Any, size: int) -> None:
    """Resample a trunk's position table to square images of `size` pixels, in place.

    Raises:
        UserError: If the size is not a multiple of the patch size, or the trunk has no table.
    """
    patch = int(trunk.patch_embed.patch_size[0])
    check_size(size, patch)
    table: Tensor | None = getattr(trunk, "pos_embed", None)
    if table is None:
        raise UserError(f"--size {size}: this model has no position table, and takes images of any size; leave it out")
    rows = 0 if trunk.no_embed_class else int(trunk.num_prefix_tokens)
    grid = (size // patch, size // patch)
    original = isinstance(trunk, OriginalPositions)
    resampled = resample(table.detach(), grid, rows, original, trunk.patch_embed.grid_size)
    trunk.pos_embed = nn.Parameter(resampled, requires_grad=False)
    trunk.patch_embed.set_input_size((size, size))
    trunk.creation_options = {**trunk.creation_options, "img_size": size}


def check_size(size: int, patch: int) -> None:
    """Refuse a side that is not a multiple of the patch size.

    Args:
        size: Image side, pixels.
        patch: Patch size, pixels.

    Raises:
        UserError: If it is not one.
    """
    if size % patch or size < patch:
        raise UserError(
            f"--size {size}: expected a multiple of the patch size {patch}, such as {max(1, size // patch) * patch}"
        )


def native_size(trunk: Any) -> tuple[int, int] | None:
    """Height and width, in pixels, of the images that the position table is for; None without a table."""
    if getattr(trunk, "pos_embed", None) is None:
        return None
    height, width = trunk.patch_embed.img_size
    return int(height), int(width)
