"""Views of an image with their crop geometry.

Shapes: V views · B images · S side in pixels · N = h·w patches of a view, row by row.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from src.core.errors import UserError


class Views(NamedTuple):
    """Crops of one size.

    Attributes:
        images: `[V, B, 3, S, S]`, uint8 from the loader, float in [0, 1] on the device.
        boxes: `[V, B, 4]`, (y0, x0, y1, x1) in the image's own unit square.
        flips: `[V, B]`, bool, True for crops mirrored left to right.
    """

    images: Tensor
    boxes: Tensor
    flips: Tensor


class Crops(NamedTuple):
    """Batch of views, as the loader gives it.

    Attributes:
        global_views: Two large views.
        local_views: Small views, students only; None if there are none.
        indices: `[B]`, int64, index of each image in its data set.
        epoch: `[B]`, int64, the epoch that each image was drawn in.
    """

    global_views: Views
    local_views: Views | None
    indices: Tensor
    epoch: Tensor


class Batch(NamedTuple):
    """Crops after the patch-level augmentation on the device (paper, patch-level augmentation).

    Attributes:
        clean: Global views as the teacher sees them.
        distorted: The same views as the student sees them.
        mask: `[V, B, N]`, bool, True for distorted patches.
        local_views: Small views for the student; None if there are none.
        step: Optimiser step, from 0; the same on every rank.
    """

    clean: Views
    distorted: Views
    mask: Tensor
    local_views: Views | None
    step: int = 0


def check_crops(batch: object) -> None:
    """Refuse a batch other than `Crops`.

    Raises:
        UserError: With the source of such batches.
    """
    if not isinstance(batch, Crops):
        raise UserError(
            f"ContinualPretraining expects batches of datamodules.views.Crops, found a {type(batch).__name__}; use a "
            "data module with task='pretrain', or src.adapt(loader, out=DIR), which takes a loader of plain images"
        )
