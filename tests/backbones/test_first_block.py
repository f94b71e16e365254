"""Kinds that adapt the later blocks alone: what they touch, keep for backward, and write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.backbones.adapter_file import read_metadata
from src.backbones.adapters import SLR, Adapter, AdaptFormer, BitFit, LoRA, UniAdapter
from src.backbones.adapters.kinds import read_kind, settings_text
from src.backbones.backbone import Backbone
from src.core.errors import UserError
from tests.backbones.test_adapters import images_for, move
from tests.tiny import FAMILIES, tiny_backbone

KINDS = [UniAdapter, AdaptFormer, LoRA, SLR, BitFit]
every_kind = pytest.mark.parametrize("kind", KINDS)


def adapted(monkeypatch: pytest.MonkeyPatch, kind: Adapter, family: str = "ViT") -> Backbone:
    """Two blocks, of which the kind is in those from its first block on."""
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    backbone.install(kind)
    move(backbone)
    return backbone


@every_kind
@pytest.mark.parametrize("family", FAMILIES)
def test_only_blocks_from_the_first_one_on_learn(
    family: str, kind: type[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = adapted(monkeypatch, kind(first_block=1), family)
    assert backbone.adapter_names and all(name.startswith("trunk.blocks.1.") for name in backbone.adapter_names)
    images, inputs = images_for(backbone), list[Tensor]()
    for block in backbone.trunk.blocks:
        block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    patches = backbone(images).patches
    assert [tokens.requires_grad for tokens in (*inputs, patches)] == [False, False, True]
    patches.square().mean().backward()
    assert all(parameter.grad is not None for _, parameter in backbone.trainable())
    with backbone.adapters_off():
        frozen = backbone(images).patches
    backbone.uninstall()
    assert torch.equal(backbone(images).patches, frozen)


@every_kind
@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_below_keep_nothing_for_backward(
    checkpointing: bool, kind: type[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(first_block: int) -> int:
        backbone = adapted(monkeypatch, kind(first_block=first_block))
        backbone.checkpoint_blocks = checkpointing
        sizes: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone(images_for(backbone))
        return sum(sizes)

    assert 0 < kept(1) < 0.7 * kept(0)


@every_kind
def test_the_first_block_is_in_the_file_where_it_is_not_0(
    kind: type[Adapter], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = adapted(monkeypatch, kind(first_block=1))
    backbone.save_adapter(tmp_path / "a", 1, "teacher")
    assert json.loads(read_metadata(tmp_path / "a")["sizes"])["first_block"] == 1
    fresh = tiny_backbone(monkeypatch)
    fresh.load_adapter(tmp_path / "a")
    assert fresh.adapter == kind(first_block=1) and "first_block=1" in str(fresh.adapter)
    images = images_for(backbone)
    assert torch.equal(fresh(images).patches, backbone(images).patches)


@every_kind
def test_a_file_without_it_adapts_all_blocks_and_is_written_as_before(kind: type[Adapter]) -> None:
    assert "first_block" not in settings_text(kind()) and "first_block" not in str(kind())
    assert read_kind(kind.__name__, settings_text(kind())) == kind() == kind(first_block=0)


@every_kind
@pytest.mark.parametrize(
    ("first_block", "message"),
    [(2, "first_block from 0 to 1, for a backbone of 2 blocks"), (-1, "at least 0"), (0.5, "whole number")],
)
def test_a_first_block_that_is_none_is_refused(
    first_block: int, message: str, kind: type[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=message):
        tiny_backbone(monkeypatch).install(kind(first_block=first_block))
