"""Semantic FPN against a re-computation written from the paper's figures, and by what reaches what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.config.yaml_reader import read
from src.segmentation.decoders.semantic_fpn import SemanticFPN
from tests.command_line import ROOT


def small(**options: object) -> SemanticFPN:
    torch.manual_seed(0)
    settings: dict = {"blocks": (0, 1, 2), "scales": (2.0, 1.0, 0.5), "channels": 8, "head_channels": 4}
    return SemanticFPN(6, 3, **(settings | options))


def maps(batch: int = 2, height: int = 5, width: int = 4, levels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 6, height, width, generator=generator) for _ in range(levels)]


def by_hand(head: SemanticFPN, fine: Tensor, same: Tensor, coarse: Tensor) -> Tensor:
    """Levels ×2, ×1, ×½ of 5×4 patches: 10×8, 5×4 and 3×2 cells."""
    weights = dict(head.named_parameters())

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding=padding)

    def step(name: str, x: Tensor) -> Tensor:
        x = conv(f"{name}.0", x, padding=1)
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        return torch.relu((x - mean) / (variance + 1e-5).sqrt())

    def up(x: Tensor, *size: int, mode: str = "bilinear") -> Tensor:
        return F.interpolate(x, size, mode=mode)

    doubled = F.conv_transpose2d(
        fine, weights["pyramid.levels.0.1.0.weight"], weights["pyramid.levels.0.1.0.bias"], stride=2
    )
    pooled = F.max_pool2d(F.pad(coarse, (0, 0, 0, 1), value=-torch.inf), 2)
    top = conv("laterals.2", pooled)
    middle = conv("laterals.1", same) + up(top, 5, 4, mode="nearest")
    bottom = conv("laterals.0", doubled) + up(middle, 10, 8, mode="nearest")
    top, middle, bottom = (conv(f"smooth.{i}", level, 1) for i, level in ((2, top), (1, middle), (0, bottom)))
    summed = (
        step("ascents.0.steps.0", bottom)
        + up(step("ascents.1.steps.0", middle), 10, 8)
        + up(step("ascents.2.steps.1", up(step("ascents.2.steps.0", top), 5, 4)), 10, 8)
    )
    return conv("linear", summed)


def test_logits_equal_the_recomputation() -> None:
    head, levels = small(standardise=False, dropout=0.0), maps()
    logits = head.classify(levels)
    assert logits.shape == (2, 3, 10, 8)
    torch.testing.assert_close(logits, by_hand(head, *levels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head(levels, (70, 56)), F.interpolate(logits, (70, 56), mode="bilinear"))


def test_the_default_has_as_many_parameters_as_the_formula_says() -> None:
    width, classes, channels, head = 384, 150, 256, 128
    doubling = 4 * width * width + width
    pyramid = 3 * doubling + 2 * width  # ×4: two and a norm; ×2: one
    fpn = 4 * (width * channels + channels) + 4 * (9 * channels * channels + channels)
    first, further = 9 * channels * head + 2 * head, 9 * head * head + 2 * head
    ascents = 4 * first + (0 + 0 + 1 + 2) * further  # 0, 1, 2 and 3 doublings; at least one convolution
    total = pyramid + fpn + ascents + head * classes + classes
    assert sum(parameter.numel() for parameter in SemanticFPN(width, classes).parameters()) == total


def test_every_level_learns_and_a_cell_hears_of_near_patches_only() -> None:
    head = small(norm="batch", dropout=0.0).eval()
    levels = [level.requires_grad_() for level in maps(batch=1, height=24, width=24)]
    head.classify(levels)[0, :, 0, 0].sum().backward()
    for level in levels:
        assert level.grad is not None
        reach = level.grad.abs().sum((0, 1)) > 0
        assert reach[:2, :2].any() and not reach[20:].any() and not reach[:, 20:].any()


def test_dropout_takes_whole_channels_in_training_only() -> None:
    head, levels = small(dropout=0.5, norm="group", standardise=False), maps()
    without = small(dropout=0.0, norm="group", standardise=False)
    assert not torch.equal(head.classify(levels), without.classify(levels))
    assert torch.equal(head.eval().classify(levels), without.eval().classify(levels))


def test_group_norm_keeps_images_apart() -> None:
    head, levels = small(norm="group", standardise=False, dropout=0.0), maps()
    alone = head.classify([level[:1] for level in levels])
    torch.testing.assert_close(alone, head.classify(levels)[:1])


def test_blocks_without_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="one scale for each block"):
        small(blocks=(0, 1))


def udi(width: int, classes: int, **options: object) -> SemanticFPN:
    settings = read(ROOT / "experiments/heads/semantic_fpn_udi.yaml")["model"]["init_args"]["decoder"]["init_args"]
    return SemanticFPN(width, classes, **(settings | options))


def test_udis_own_network_upsamples_nothing_before_its_logits() -> None:
    head = udi(6, 3, channels=8, head_channels=4, dropout=0.0, norm="group").eval()
    assert head.blocks == (2, 5, 8, 11) and not head.prefix_tokens
    levels = maps(levels=4)
    topdown = [lateral(level) for lateral, level in zip(head.laterals, levels, strict=True)]
    for coarse in (3, 2, 1):  # of one resolution: each level plus all later ones
        topdown[coarse - 1] = topdown[coarse - 1] + topdown[coarse]
    summed = sum(
        ascent.steps[0](smooth(level))
        for ascent, smooth, level in zip(head.ascents, head.smooth, topdown, strict=True)  # one convolution each
    )
    logits = head.classify(levels)
    assert logits.shape == (2, 3, 5, 4)  # one cell a patch
    torch.testing.assert_close(logits, head.linear(summed))


def test_udis_own_network_has_no_deconvolution() -> None:
    width, classes, channels, hidden = 384, 150, 256, 128
    laterals, smooth = width * channels + channels, 9 * channels**2 + channels
    ascent = 9 * channels * hidden + 2 * hidden
    total = 4 * (laterals + smooth + ascent) + hidden * classes + classes
    assert sum(parameter.numel() for parameter in udi(width, classes).parameters()) == total
