"""Every adapter kind: identity at the start, exact counts, off and out again bit for bit, merged where it can be."""

import pytest
import torch

from src.backbones.adapters import SLR, Adapter, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.core.errors import UserError
from tests.tiny import FAMILIES, tiny_backbone

KINDS: list[Adapter] = [
    UniAdapter(rank=4),
    UniAdapter(rank=4, placement="parallel", norm="layernorm", init="normal"),
    AdaptFormer(rank=4),
    LoRA(rank=2),
    LoRA(rank=2, targets=("k", "proj", "fc1", "fc2")),
    SLR(rank=2),
    BitFit(),
    LastBlocks(1),
    Full(),
]
everywhere = pytest.mark.parametrize("family", FAMILIES)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def images_for(backbone):
    return torch.rand(2, 3, 2 * backbone.patch_size, 3 * backbone.patch_size)


def move(backbone, size: float = 0.05) -> None:
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(size * torch.randn_like(parameter))


@everywhere
@every_kind
def test_an_untouched_adapter_is_the_identity_bit_for_bit(family, kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    images = images_for(backbone)
    before = backbone(images, attention=True)
    backbone.install(kind)
    for one, other in zip(before[:4], backbone(images, attention=True)[:4], strict=True):
        assert torch.equal(one, other)


@everywhere
@every_kind
def test_a_trained_adapter_changes_features_and_off_and_out_restore_them_bit_for_bit(family, kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    images = images_for(backbone)
    before = backbone(images).patches
    backbone.install(kind)
    move(backbone)
    adapted = backbone(images).patches
    assert not torch.allclose(adapted, before, atol=1e-4)
    with backbone.adapters_off():
        assert torch.equal(backbone(images).patches, before)
    assert torch.equal(backbone(images).patches, adapted)
    backbone.uninstall()
    assert torch.equal(backbone(images).patches, before)
    assert backbone.trainable() == []


@every_kind
def test_only_what_the_kind_brings_or_marks_gets_a_gradient(kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(kind)
    move(backbone)
    backbone(images_for(backbone)).patches.square().mean().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def formulas(width: int = 32, depth: int = 2, hidden: int = 128) -> list[tuple[Adapter, int]]:
    bottleneck = (width + 1) * 4 + (4 + 1) * width
    linears = {"q": (width, width), "k": (width, width), "v": (width, width), "proj": (width, width)}
    linears |= {"fc1": (width, hidden), "fc2": (hidden, width)}
    low_rank = {name: 2 * (inputs + outputs) for name, (inputs, outputs) in linears.items()}
    scales = (width + 3 * width) + (width + width) + 2 * (width + hidden)
    biases = 3 * width + width + hidden + width + 2 * width
    block = 3 * width * width + width * width + 2 * width * hidden + biases + 2 * width
    return [
        (UniAdapter(rank=4), depth * bottleneck),
        (UniAdapter(rank=4, norm="layernorm"), depth * (bottleneck + 2 * width)),
        (AdaptFormer(rank=4), depth * bottleneck),
        (LoRA(rank=2), depth * (low_rank["q"] + low_rank["v"])),
        (SLR(rank=2), depth * (sum(low_rank.values()) + scales)),
        (BitFit(), depth * biases),
        (LastBlocks(1), block),
    ]


@pytest.mark.parametrize(("kind", "count"), formulas(), ids=lambda value: str(value))
def test_the_number_of_trainable_parameters_is_the_formulas(kind, count, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    report = backbone.install(kind)
    assert report.trainable == count == sum(parameter.numel() for _, parameter in backbone.trainable())
    assert report.total == sum(parameter.numel() for parameter in backbone.parameters())


def test_full_trains_everything(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    report = backbone.install(Full())
    assert report.trainable == report.total


@everywhere
@pytest.mark.parametrize(
    "kind", [LoRA(rank=2), LoRA(rank=2, targets=("q", "fc2")), SLR(rank=2), BitFit(), LastBlocks(1)], ids=str
)
def test_merged_and_unmerged_features_agree(family, kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    images = images_for(backbone)
    names = set(backbone.state_dict())
    backbone.install(kind)
    move(backbone)
    unmerged = backbone(images).patches
    backbone.merge()
    assert torch.allclose(backbone(images).patches, unmerged, atol=1e-5)
    assert set(backbone.state_dict()) == names and backbone.trainable() == [] and backbone.adapter is None


def test_a_merged_backbone_takes_no_adapter_of_the_weights_before(monkeypatch, tmp_path):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(LoRA(rank=2))
    move(backbone)
    backbone.save_adapter(tmp_path / "a", 1, "teacher")
    backbone.merge()
    with pytest.raises(UserError, match="load the same weights"):
        backbone.load_adapter(tmp_path / "a")
    with pytest.raises(UserError, match="no adapter to merge"):
        backbone.merge()


def test_merging_a_uniadapter_is_refused_with_the_reason(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    with pytest.raises(ValueError, match="ReLU"):
        backbone.merge()


def test_a_second_adapter_is_refused(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    with pytest.raises(ValueError, match="already carries UniAdapter"):
        backbone.install(LoRA())


def test_a_uniadapter_equals_its_equation(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4, scale=0.3))
    move(backbone, 0.3)
    adapted = backbone.trunk.blocks[0]
    block, down, up = adapted.block, adapted.bottleneck.down, adapted.bottleneck.up
    x = torch.randn(2, 7, 32)
    x_attended = x + block.attn(block.norm1(x))
    hidden = (x_attended @ down.weight.T + down.bias).clamp(min=0)
    x_adapted = x_attended + 0.3 * (hidden @ up.weight.T + up.bias)
    expected = x_adapted + block.mlp(block.norm2(x_adapted))
    assert torch.allclose(adapted(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (UniAdapter(rank=4), UniAdapter(rank=8)),
        (UniAdapter(rank=4), UniAdapter(rank=4, scale=0.5)),
        (UniAdapter(rank=4), UniAdapter(rank=4, placement="parallel")),
        (UniAdapter(rank=4), UniAdapter(rank=4, norm="layernorm")),
        (UniAdapter(rank=4), UniAdapter(rank=4, init="normal")),
        (AdaptFormer(rank=4), AdaptFormer(rank=2)),
        (AdaptFormer(rank=4), AdaptFormer(rank=4, scale=0.5)),
        (LoRA(rank=2), LoRA(rank=3)),
        (LoRA(rank=2), LoRA(rank=2, alpha=4.0)),
        (LoRA(rank=2), LoRA(rank=2, targets=("k",))),
        (SLR(rank=2), SLR(rank=3)),
        (SLR(rank=2), SLR(rank=2, targets=("q",))),
        (LastBlocks(1), LastBlocks(2)),
    ],
    ids=lambda kind: str(kind),
)
def test_every_setting_of_every_kind_has_an_effect(one, other, monkeypatch):
    outputs = []
    for kind in (one, other):
        backbone = tiny_backbone(monkeypatch)
        torch.manual_seed(1)
        backbone.install(kind)
        torch.manual_seed(2)
        move(backbone)
        outputs.append(backbone(torch.ones(1, 3, 32, 32)).patches)
    assert not torch.allclose(*outputs, atol=1e-6)


def test_blocks_that_are_not_known_are_refused_by_name(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.trunk.blocks[1] = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"blocks\.1 is a Identity"):
        backbone.install(UniAdapter())
