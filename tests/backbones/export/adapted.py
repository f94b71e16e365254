"""Tiny adapted backbones, and what to compare."""

from __future__ import annotations

import torch
from torch import Tensor

from src.backbones.adapters import Adapter
from src.backbones.backbone import Backbone, load_backbone
from tests.backbones.checkpoints import tiny_timm  # noqa: F401  (registers the tiny models with timm)


def adapted(name: str, kind: Adapter | None) -> Backbone:
    """A tiny random backbone whose adapter, if it gets one, has moved away from the identity."""
    torch.manual_seed(0)
    backbone = load_backbone(name, weights="none")
    with torch.no_grad():  # layer scales as well, which start so small that no block would matter
        for parameter in backbone.trunk.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if kind is not None:
        backbone.install(kind)
        with torch.no_grad():
            for _, parameter in backbone.trainable():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return backbone


def images_of(backbone: Backbone, rows: int, columns: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, rows * backbone.patch_size, columns * backbone.patch_size, generator=generator)


def tokens(backbone: Backbone, images: Tensor) -> Tensor:
    """All tokens `[B, 1 + E + N, D]`."""
    with torch.no_grad():
        features = backbone(images)
    return torch.cat((features.cls[:, None], features.extra, features.patches), dim=1)


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference."""
    return float((one - other).abs().max())
