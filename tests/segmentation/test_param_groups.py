"""Parameter groups and stochastic depth by value, on every family of ViT."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath

from src.backbones.adapters import Adapter, LoRA, UniAdapter
from src.backbones.adapters.bottleneck import inner_block
from src.backbones.backbone import Backbone
from src.segmentation.decoders.semantic_fpn import SemanticFPN
from src.segmentation.param_groups import freeze_unreached, install_drop_path, layer_of, parameter_groups
from tests.tiny import FAMILIES, TINY, tiny_backbone


def small_head() -> SemanticFPN:
    return SemanticFPN(32, 3, blocks=(0, 1), scales=(2.0, 1.0), channels=8, head_channels=8)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("adapter", [None, UniAdapter(rank=4), LoRA(rank=2)], ids=["plain", "UniAdapter", "LoRA"])
def test_each_trainable_parameter_is_in_exactly_one_group(
    family: str, adapter: Adapter | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, head = tiny_backbone(monkeypatch, family), small_head()
    if adapter is not None:
        backbone.install(adapter)
    for everything in (False, True):
        if everything:
            backbone.requires_grad_(True)
        groups = parameter_groups(head, backbone, 0.1, 0.7, 0.05)
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        trainable = [p for module in (head, backbone) for p in module.parameters() if p.requires_grad]
        assert sorted(grouped) == sorted(map(id, trainable))


def test_everything_that_trains_hears_of_a_head_that_leaves_prefix_tokens_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(monkeypatch, FAMILIES["DINOv2 with registers"]).requires_grad_(True)
    freeze_unreached(backbone, (0, 1), prefix_tokens=False)
    images = torch.rand(1, 3, 2 * backbone.patch_size, 2 * backbone.patch_size)
    sum(level.square().sum() for level in backbone.feature_maps(images, (0, 1), prefix_tokens=False)).backward()
    silent = {
        name for name, p in backbone.named_parameters() if p.requires_grad and not (p.grad is not None and p.grad.any())
    }
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert not silent and frozen == {f"trunk.{name}" for name in ("cls_token", "reg_token", "norm.weight", "norm.bias")}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_norms_biases_positions_and_tokens_do_not_decay(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, head = tiny_backbone(monkeypatch, family).requires_grad_(True), small_head()
    groups = parameter_groups(head, backbone, 1.0, 1.0, 0.05)
    decaying = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
    for name, parameter in [*backbone.named_parameters(), *head.named_parameters()]:
        exempt = parameter.ndim <= 1 or any(part in name for part in ("pos_embed", "cls_token", "reg_token", "norm"))
        assert (id(parameter) in decaying) == (not exempt), name


def test_the_rate_falls_by_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, head = tiny_backbone(monkeypatch).requires_grad_(True), small_head()
    factors = {
        id(parameter): group["lr_factor"]
        for group in parameter_groups(head, backbone, 0.2, 0.5, 0.05)
        for parameter in group["params"]
    }
    expected = {
        "cls_token": 0.2 * 0.5**3,
        "pos_embed": 0.2 * 0.5**3,
        "patch_embed.proj.weight": 0.2 * 0.5**3,
        "blocks.0.attn.qkv.weight": 0.2 * 0.5**2,
        "blocks.1.mlp.fc2.bias": 0.2 * 0.5,
        "norm.weight": 0.2,
    }
    for name, factor in expected.items():
        assert factors[id(backbone.trunk.get_parameter(name))] == pytest.approx(factor), name
    assert {factors[id(parameter)] for parameter in head.parameters()} == {1.0}


def test_block_ten_is_not_taken_for_block_one() -> None:
    names = ["blocks.1.norm1.weight", "blocks.10.block.attn.qkv.weight", "norm.bias", "norm_pre.weight", "reg_token"]
    assert [layer_of(name, 12) for name in names] == [2, 11, 13, 0, 0]


@pytest.mark.parametrize("adapter", [None, UniAdapter(rank=4)], ids=["plain", "UniAdapter"])
def test_drop_path_rises_linearly_and_also_within_adapted_blocks(adapter: Adapter | None) -> None:
    backbone = Backbone(TINY, "none")
    if adapter is not None:
        backbone.install(adapter)
    install_drop_path(backbone, 0.25)
    blocks = [inner_block(block) for block in backbone.trunk.blocks]
    rates = [getattr(block.drop_path2, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert all(isinstance(block.drop_path1, DropPath) for block in blocks[1:])


def test_a_branch_is_skipped_for_the_share_of_images_that_was_asked_for() -> None:
    torch.manual_seed(0)
    backbone = Backbone(TINY, "none").train()
    install_drop_path(backbone, 0.3)
    block, tokens = inner_block(backbone.trunk.blocks[-1]), torch.randn(2000, 1, backbone.width)
    skipped = (block.drop_path1(tokens) == 0).all(-1).double().mean().item()
    assert skipped == pytest.approx(0.3, abs=0.04)  # four standard deviations
    assert block.drop_path1(tokens).mean().item() == pytest.approx(tokens.mean().item(), abs=0.02)


def test_what_drop_path_cannot_do_is_refused() -> None:
    backbone = Backbone(TINY, "none")
    with pytest.raises(ValueError, match=r"from 0 to below 1, found 1\.0"):
        install_drop_path(backbone, 1.0)
    del backbone.trunk.blocks[2].drop_path2
    with pytest.raises(ValueError, match=r"blocks\.2 is a Block, which has no drop_path1 and drop_path2"):
        install_drop_path(backbone, 0.1)


def test_what_no_head_reads_is_frozen() -> None:
    for blocks, late in (((3, 1), ("blocks.4.", "blocks.5.", "norm.")), ((5,), ("norm.",)), (None, ())):
        backbone = Backbone(TINY, "none").requires_grad_(True)
        freeze_unreached(backbone, blocks)
        for name, parameter in backbone.trunk.named_parameters():
            assert parameter.requires_grad != name.startswith(late), name


def test_only_a_head_that_leaves_out_the_end_of_a_deeper_backbone_is_told_so() -> None:
    backbone = Backbone(TINY, "none")
    with pytest.warns(UserWarning) as told:
        freeze_unreached(backbone, (0, 2))
        freeze_unreached(backbone, (0, 5))
        freeze_unreached(backbone, (2,))  # one block is a choice
    (message,) = [str(warning.message) for warning in told]
    assert "blocks [0, 2] of test_vit, which has 6" in message
    assert message.endswith("set decoder.init_args.blocks to [2, 5]")
