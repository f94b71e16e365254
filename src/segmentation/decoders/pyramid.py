"""Feature pyramid from a ViT's maps of one resolution.

Shapes: B images · D width · h×w patches; level l of a pyramid has about 2^e_l · (h×w) cells, finest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from src.core.errors import UserError
from src.segmentation.decoders.batch_norm import BatchNorm
from src.segmentation.decoders.convolution import Norm, make_norm


class Pyramid(nn.Module):
    """Resamples each map to its own resolution, as in the segmentation heads of BEiT, iBOT and DINO.

    Finer by transposed 2×2 convolutions of stride 2, norm and GELU between two of them; coarser by max pooling, where
    an odd last row gets its own cell, so that no patch is lost.

    Args:
        width: D.
        scales: Resolution of each level relative to the patch grid, finest first; powers of two.
        norm: Between transposed convolutions.
        standardise: Standardise each channel of each map first (running statistics, nothing learnt).

    Raises:
        UserError: If a scale is not a power of two, or they do not decrease.
    """

    def __init__(self, width: int, scales: Sequence[float], norm: Norm, standardise: bool) -> None:
        super().__init__()
        if not scales or any(scale <= 0 or not math.log2(scale).is_integer() for scale in scales):
            raise UserError(f"scales {list(scales)}: expected powers of two, such as [4, 2, 1, 0.5]")
        if list(scales) != sorted(scales, reverse=True):
            raise UserError(f"scales {list(scales)}: expected the finest level first, such as [4, 2, 1, 0.5]")
        self.exponents = [int(math.log2(scale)) for scale in scales]
        self.levels = nn.ModuleList(
            nn.Sequential(
                BatchNorm(width, affine=False) if standardise else nn.Identity(),
                _rescaling(width, exponent, norm),
            )
            for exponent in self.exponents
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Levels `[B, D, h_l, w_l]` from maps `[B, D, h, w]`, one each."""
        return [level(features) for level, features in zip(self.levels, maps, strict=True)]


def _rescaling(width: int, exponent: int, norm: Norm) -> nn.Module:
    if exponent <= 0:
        return nn.MaxPool2d(2**-exponent, ceil_mode=True) if exponent else nn.Identity()
    layers: list[nn.Module] = []
    for _ in range(exponent):
        layers += [nn.ConvTranspose2d(width, width, kernel_size=2, stride=2), make_norm(norm, width), nn.GELU()]
    return nn.Sequential(*layers[:-2])  # nothing after the last one


def level_size(grid: tuple[int, int], exponent: int) -> tuple[int, int]:
    """Cells of a level of scale 2^exponent over patches (h, w)."""
    height, width = (side << exponent if exponent >= 0 else -(-side >> -exponent) for side in grid)
    return height, width


def top_down(levels: list[Tensor], mode: str) -> list[Tensor]:
    """Each level plus all coarser ones at its size (Feature Pyramid Networks, arXiv 1612.03144, section 3).

    Args:
        levels: `[B, channels, h_l, w_l]`, finest first.
        mode: Mode of the interpolation.
    """
    merged = levels[-1:]
    for level in reversed(levels[:-1]):
        merged.insert(0, level + F.interpolate(merged[0], size=level.shape[-2:], mode=mode))
    return merged


def check_blocks(blocks: Sequence[int], scales: Sequence[float]) -> None:
    """Check that each level has a block.

    Raises:
        UserError: If it has not.
    """
    if len(blocks) != len(scales):
        raise UserError(f"blocks {list(blocks)} and scales {list(scales)}: expected one scale for each block")
