"""UPerNet against a re-computation written from the paper's figures, and by what reaches what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.segmentation.decoders.upernet import PyramidPooling, UPerNet


def small(**options: object) -> UPerNet:
    torch.manual_seed(0)
    settings: dict = {"blocks": (0, 1), "scales": (1.0, 0.5), "channels": 8, "bins": (1, 2)}
    return UPerNet(6, 3, **(settings | options))


def maps(batch: int = 2, height: int = 5, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 6, height, width, generator=generator) for _ in range(2)]


def by_hand(head: UPerNet, fine: Tensor, coarse: Tensor) -> Tensor:
    """Levels ×1 and ×½ of 5×4 patches: 5×4 and 3×2 cells."""
    weights = dict(head.named_parameters())

    def layer(name: str, x: Tensor, padding: int = 0) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.0.weight"], padding=padding)
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        return torch.relu((x - mean) / (variance + 1e-5).sqrt())

    def up(x: Tensor, *size: int) -> Tensor:
        return F.interpolate(x, size, mode="bilinear")

    pooled = F.max_pool2d(F.pad(coarse, (0, 0, 0, 1), value=-torch.inf), 2)
    whole = pooled.mean((2, 3), keepdim=True)
    # two bins over three rows share the middle one; two bins over two columns share none
    halves = torch.stack((pooled[:, :, 0:2].mean(2), pooled[:, :, 1:3].mean(2)), dim=2)
    parts = [pooled, up(layer("pooling.branches.0", whole), 3, 2), up(layer("pooling.branches.1", halves), 3, 2)]
    top = layer("pooling.fuse", torch.cat(parts, dim=1), padding=1)
    bottom = layer("smooth.0", layer("laterals.0", fine) + up(top, 5, 4), padding=1)
    fused = layer("fuse", torch.cat((bottom, up(top, 5, 4)), dim=1), padding=1)
    return F.conv2d(fused, weights["linear.weight"], weights["linear.bias"])


def test_logits_equal_the_recomputation() -> None:
    head, levels = small(standardise=False, dropout=0.0), maps()
    logits = head.classify(levels)
    torch.testing.assert_close(logits, by_hand(head, *levels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head(levels, (70, 56)), F.interpolate(logits, (70, 56), mode="bilinear"))


def test_the_default_has_as_many_parameters_as_the_formula_says() -> None:
    width, classes, channels = 384, 150, 256
    pyramid = 3 * (4 * width * width + width) + 2 * width
    pooling = 4 * (width * channels + 2 * channels) + 9 * (width + 4 * channels) * channels + 2 * channels
    levels = 3 * (width * channels + 2 * channels) + 3 * (9 * channels * channels + 2 * channels)
    fusion = 9 * 4 * channels * channels + 2 * channels
    total = pyramid + pooling + levels + fusion + channels * classes + classes
    assert sum(parameter.numel() for parameter in UPerNet(width, classes).parameters()) == total


@pytest.mark.parametrize(("bins", "everywhere"), [((1,), True), ((9,), False)])
def test_a_cell_hears_of_the_whole_level_by_its_average_only(bins: tuple[int, ...], everywhere: bool) -> None:
    torch.manual_seed(0)
    level = torch.rand(2, 6, 9, 9, requires_grad=True)
    PyramidPooling(6, 8, bins, "batch").eval()(level)[0, :, 0, 0].sum().backward()
    assert level.grad is not None
    reach = level.grad[0].abs().sum(0) > 0
    assert reach[:2, :2].all() and bool(reach[2:, 2:].all()) == bool(reach[2:, 2:].any()) == everywhere


def test_every_level_learns() -> None:
    levels = [level.requires_grad_() for level in maps()]
    small(dropout=0.0).classify(levels).square().sum().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in levels)


def test_dropout_takes_whole_channels_in_training_only() -> None:
    head, levels = small(dropout=0.5, norm="group", standardise=False), maps()
    without = small(dropout=0.0, norm="group", standardise=False)
    assert not torch.equal(head.classify(levels), without.classify(levels))
    assert torch.equal(head.eval().classify(levels), without.eval().classify(levels))


def test_one_image_trains_with_group_norm_and_is_refused_with_batch_norm() -> None:
    levels = maps(batch=1)
    with pytest.raises(ValueError, match="a batch of two images or more, or set the decoder's norm to group"):
        small().classify(levels)
    assert small(norm="group").classify(levels).isfinite().all()
    assert small().eval().classify(levels).isfinite().all()


def test_blocks_without_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="one scale for each block"):
        small(blocks=(0, 1, 2))
