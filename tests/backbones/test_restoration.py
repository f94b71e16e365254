"""Adapters off is the frozen backbone, and it is noticed where it is not."""

from __future__ import annotations

import pytest
import torch

from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.restoration import restores
from tests.tiny import tiny_backbone

IMAGES = torch.rand(2, 3, 32, 32)


@pytest.mark.parametrize("kind", [UniAdapter(rank=4), LoRA()])
def test_whatever_an_adapter_learnt_its_backbone_is_the_old_one(monkeypatch, kind) -> None:
    backbone = tiny_backbone(monkeypatch)
    frozen = backbone(IMAGES).patches
    backbone.install(kind)
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.normal_()
    assert not torch.equal(backbone(IMAGES).patches, frozen)
    assert restores(backbone, IMAGES)
    assert torch.equal(backbone(IMAGES).patches, frozen)


def test_a_backbone_that_was_trained_itself_is_not(monkeypatch) -> None:
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    with torch.no_grad():
        next(backbone.trunk.parameters()).add_(1e-6)
    assert not restores(backbone, IMAGES)
