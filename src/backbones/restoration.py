"""Verify that an adapted backbone with its adapters off equals the frozen one."""

from __future__ import annotations

import torch
from torch import Tensor

from src.backbones.backbone import Backbone
from src.backbones.checkpoints import weight_hash


@torch.no_grad()
def restores(backbone: Backbone, images: Tensor) -> bool:
    """Return whether the features with adapters off equal those of the loaded weights, bit for bit.

    Removes the adapters, which leaves the frozen backbone: its weights must still have the hash of loading, and its
    features must equal those with adapters off.

    Args:
        backbone: With adapters installed.
        images: `[B, 3, H, W]`.
    """
    with backbone.adapters_off():
        off = backbone(images)
    backbone.uninstall()
    bare = backbone(images)
    same = all(torch.equal(ours, theirs) for ours, theirs in zip(off[:3], bare[:3], strict=True))
    return same and weight_hash(backbone.trunk.state_dict()) == backbone.weight_hash
