"""Semantic FPN, the head of UDI's own evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.segmentation.decoders.convolution import Norm, conv_norm_relu
from src.segmentation.decoders.pyramid import level_size, top_down
from src.segmentation.decoders.pyramid_decoder import PyramidDecoder


class SemanticFPN(PyramidDecoder):
    """The semantic branch of Panoptic Feature Pyramid Networks (arXiv 1901.02446, section 3.1) on a ViT.

    Maps of several blocks become a pyramid; an FPN adds coarse levels to fine ones; each level is upsampled to the
    finest one's size by 3×3 convolutions and bilinear steps of two; their sum is classified, cell by cell.

    Args:
        width: Channels of one feature map, D.
        classes: C.
        head_channels: Channels of what is summed; 128 as in the paper.
        pyramid: See `PyramidDecoder`.

    Raises:
        UserError: If scales and blocks do not fit each other.
    """

    def __init__(self, width: int, classes: int, head_channels: int = 128, **pyramid: Any) -> None:
        super().__init__(width, classes, **pyramid)
        channels, norm = self.channels, self.norm
        exponents = self.pyramid.exponents
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, kernel_size=1) for _ in exponents)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in exponents)
        self.ascents = nn.ModuleList(
            Ascent(channels, head_channels, exponent, exponents[0], norm) for exponent in exponents
        )
        self.linear = self.classifier(head_channels)

    def classify(self, maps: list[Tensor]) -> Tensor:
        """Logits at the finest level's size, `[B, C, h', w']`."""
        height, width = maps[0].shape[-2:]
        levels = [lateral(level) for lateral, level in zip(self.laterals, self.pyramid(maps), strict=True)]
        levels = [smooth(level) for smooth, level in zip(self.smooth, top_down(levels, "nearest"), strict=True)]
        ascended = [ascent(level, (height, width)) for ascent, level in zip(self.ascents, levels, strict=True)]
        return self.linear(self.dropout(torch.stack(ascended).sum(dim=0)))


class Ascent(nn.Module):
    """One level's way to the finest: a 3×3 convolution and twice the size, as often as that takes.

    Args:
        inputs: Channels of the level.
        outputs: Channels at its end.
        start: Exponent of the level's scale.
        end: Exponent of the finest level's scale; where that is the level's own, one convolution and no step.
        norm: After each convolution.
    """

    def __init__(self, inputs: int, outputs: int, start: int, end: int, norm: Norm) -> None:
        super().__init__()
        self.exponents = range(start + 1, end + 1)
        self.steps = nn.ModuleList(
            conv_norm_relu(inputs if step == 0 else outputs, outputs, 3, norm)
            for step in range(max(1, len(self.exponents)))
        )

    def forward(self, level: Tensor, grid: tuple[int, int]) -> Tensor:
        """`[B, outputs, h', w']` from `[B, inputs, h_l, w_l]`, where the patches are `grid` = (h, w)."""
        if not self.exponents:
            return self.steps[0](level)
        for step, exponent in zip(self.steps, self.exponents, strict=True):
            level = F.interpolate(step(level), size=level_size(grid, exponent), mode="bilinear", align_corners=False)
        return level
