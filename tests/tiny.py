"""The smallest backbones that are still real ones, for tests."""

from __future__ import annotations

import functools

import timm
import torch
from torch import nn

from datamodules.views import Crops, Views
from src.backbones import backbone as backbone_module
from src.backbones.backbone import Backbone
from src.core.keyed_random import KeyedRandom
from src.pretraining.projection_head import ProjectionHead

TINY = "test_vit"  # timm's own test model: width 64, depth 6, 2 heads, patch 16
SIZES = {"embed_dim": 32, "depth": 2, "num_heads": 2}
FAMILIES = {
    "ViT": "vit_tiny_patch16_224",
    "DINOv2": "vit_small_patch14_dinov2",
    "DINOv2 with registers": "vit_small_patch14_reg4_dinov2",
    "DINOv3": "vit_small_patch16_dinov3",
}


def tiny_backbone(monkeypatch, name: str = "vit_tiny_patch16_224", seed: int = 0, moved: bool = True) -> Backbone:
    """A backbone of a real family with two narrow blocks; all its values are random, layer scales included."""

    def build(model: str, weights: str, *_: object) -> nn.Module:
        torch.manual_seed(seed)
        trunk = timm.create_model(model, num_classes=0, dynamic_img_size=True, **SIZES)
        if moved:
            with torch.no_grad():
                for parameter in trunk.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return trunk

    monkeypatch.setattr(backbone_module, "build_trunk", build)
    return Backbone(name, "none")


def tiny_head(prototypes: int = 16, hidden: int = 24, bottleneck: int = 8, layers: int = 3):
    """A small projection head for any width."""
    return functools.partial(ProjectionHead, prototypes=prototypes, hidden=hidden, bottleneck=bottleneck, layers=layers)


def random_crops(batch: int = 4, side: int = 32, local: int = 0, seed: int = 0, first: int = 0) -> Crops:
    """Views of random images whose boxes overlap."""
    generator = torch.Generator().manual_seed(seed)

    def views(count: int, size: int) -> Views:
        images = torch.randint(0, 256, (count, batch, 3, size, size), generator=generator).to(torch.uint8)
        corners = torch.rand(count, batch, 2, generator=generator) * 0.4
        boxes = torch.cat((corners, corners + 0.4 + 0.2 * torch.rand(count, batch, 2, generator=generator)), -1)
        return Views(images, boxes, torch.rand(count, batch, generator=generator) < 0.5)

    return Crops(
        views(2, side),
        views(local, 16) if local else None,
        torch.arange(first, first + batch),
        torch.zeros(batch, dtype=torch.int64),
    )


def random_of(crops: Crops, seed: int = 0) -> KeyedRandom:
    """Keyed draws of a batch."""
    return KeyedRandom(seed, crops.epoch, crops.indices)
