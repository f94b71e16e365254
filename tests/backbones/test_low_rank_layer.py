"""An update on the tokens is the update of the weight: outputs, gradients, and what is kept for backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from src.backbones.adapters import LoRA
from src.backbones.adapters.low_rank_layer import LowRankUpdate
from src.backbones.backbone import Backbone
from tests.backbones.test_adapters import images_for, move
from tests.tiny import FAMILIES, tiny_backbone

KINDS = [LoRA(rank=2), LoRA(rank=2, targets=("k",)), LoRA(rank=3, targets=("q", "k", "v", "proj", "fc1", "fc2"))]


def by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the updated weight everywhere."""
    monkeypatch.setattr(LowRankUpdate, "on_tokens", False)


def gradients(backbone: Backbone, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Patches, and the gradients of their mean square."""
    backbone.zero_grad()
    patches = backbone(images).patches
    patches.square().mean().backward()
    return patches.detach(), {name: p.grad.clone() for name, p in backbone.trainable() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_outputs_and_gradients_are_those_of_the_updated_weight(
    family: str, kind: LoRA, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    backbone.install(kind)
    move(backbone)
    backbone.double()
    images = images_for(backbone)
    patches, found = gradients(backbone, images)
    by_weight(monkeypatch)
    expected_patches, expected = gradients(backbone, images)
    assert torch.allclose(patches, expected_patches, rtol=1e-11, atol=1e-13)
    assert found.keys() == expected.keys() == dict(backbone.trainable()).keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-13), name


def test_an_update_that_learns_computes_no_gradient_of_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(monkeypatch)
    backbone.install(LoRA(rank=2))
    weights: list[torch.Size] = []

    def watch(update: LowRankUpdate) -> Callable[..., Tensor]:
        def forward(weight: Tensor) -> Tensor:
            weights.append(weight.shape)
            return LowRankUpdate.forward(update, weight)

        return forward

    for module in backbone.modules():
        if isinstance(module, LowRankUpdate):
            monkeypatch.setattr(module, "forward", watch(module))
    images = images_for(backbone)
    backbone(images).patches.sum().backward()
    assert weights == []
    with torch.no_grad():
        backbone(images)
    assert len(weights) == backbone.depth


def test_features_without_gradients_follow_an_update_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(monkeypatch)
    backbone.install(LoRA(rank=2))
    images = images_for(backbone)
    followed = copy.deepcopy(backbone)
    move(followed)
    with torch.no_grad():
        before = backbone(images).patches
        torch._foreach_lerp_([p for _, p in backbone.trainable()], [p for _, p in followed.trainable()], 0.5)
        after = backbone(images).patches
    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(after, backbone(images).patches.detach(), atol=1e-6)


def test_under_autocast_tokens_are_bfloat16_and_gradients_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(monkeypatch)
    backbone.install(LoRA(rank=2))
    move(backbone)
    images = images_for(backbone)
    _, expected = gradients(backbone, images)
    layer = backbone.trunk.blocks[0].attn.qkv
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.rand(2, 3, 32)).dtype == torch.bfloat16
        _, found = gradients(backbone, images)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() < 0.05 * gradient.norm(), name


def test_a_layer_is_a_plain_one_again_once_the_adapter_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(monkeypatch)
    for leave in (backbone.uninstall, backbone.merge):
        backbone.install(LoRA(rank=2))
        leave()
        assert type(backbone.trunk.blocks[0].attn.qkv) is nn.Linear
