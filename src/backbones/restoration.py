"""Verify that an adapted backbone with its adapters off equals the frozen one."""

from __future__ import annotations

import torch
from torch import Tensor

from src.backbones.backbone import Backbone
from src.backbones.checkpoints import weight_hash


@torch.no_grad()
def restores(backbone: Backbone, images: Tensor) -> bool:
    """Return whether the features with adapters off are those of the loaded weights, bit for bit.

    Takes the adapters out, so that the backbone is the frozen one afterwards: its weights must have the hash that they
    had when they were loaded, and its features must be those that it had with adapters off.

    Args:
        backbone: With adapters in it.
        images: `[B, 3, H, W]`.
    """
    with backbone.adapters_off():
        off = backbone(images)
    backbone.uninstall()
    bare = backbone(images)
    same = all(torch.equal(ours, theirs) for ours, theirs in zip(off[:3], bare[:3], strict=True))
    return same and weight_hash(backbone.trunk.state_dict()) == backbone.weight_hash
