"""Regions of a view, and their representation in the context of a view (docs/method.md, section 6; paper, Eqs. 5–7).

Shapes: V views · B images · R regions · H heads · N = h·w patches · D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom


class RegionSampler(ABC):
    """Chooses the anchor patches of regions; the windows are common to all samplers.

    Args:
        regions: R, regions per view; 8 is our choice.
        windows: Choices for the side of a region's window, in patches; {3, 4, 5} is our choice.
    """

    def __init__(self, regions: int = 8, windows: tuple[int, ...] = (3, 4, 5)) -> None:
        if regions < 1 or not windows or min(windows) < 1:
            raise UserError(f"regions need R ≥ 1 and windows ≥ 1 patch, got R = {regions}, windows = {windows}")
        self.regions = regions
        self.windows = tuple(windows)

    @abstractmethod
    def anchors(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        """Anchor patches `[V, B, R]`, int64, from the class token's attention `[V, B, H, N]`."""

    def __call__(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        """Regions as masks over patches, bool `[V, B, R, N]`.

        Args:
            attention: `[V, B, H, N]`, the teacher's class-token attention in the last block.
            grid: (h, w) with h·w = N.
            random: Keyed random numbers of the batch.
        """
        height, width = grid
        views = attention.shape[0]
        anchors = self.anchors(attention, grid, random)
        drawn = random.integers("region/window", len(self.windows), views, self.regions).transpose(0, 1)  # [V, B, R]
        window = torch.full_like(drawn, self.windows[0])
        for choice, side in enumerate(self.windows[1:], start=1):  # a lookup table would need a copy to the device
            window.masked_fill_(drawn == choice, side)
        # An even window cannot be centred: its extra row and column come before the anchor. Clipped to the grid.
        top, left = anchors // width - window // 2, anchors % width - window // 2
        rows = torch.arange(height, device=attention.device)
        columns = torch.arange(width, device=attention.device)
        in_rows = (rows >= top[..., None]) & (rows < (top + window)[..., None])  # [V, B, R, h]
        in_columns = (columns >= left[..., None]) & (columns < (left + window)[..., None])  # [V, B, R, w]
        return (in_rows[..., :, None] & in_columns[..., None, :]).flatten(-2)


class AttentionAware(RegionSampler):
    """Anchors drawn with probability proportional to one random head's class-token attention (paper)."""

    def anchors(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        views, _batch, heads, patches = attention.shape
        head = random.integers("region/head", heads, views, self.regions).transpose(0, 1)  # [V, B, R]
        chosen = attention.gather(2, head[..., None].expand(-1, -1, -1, patches))  # [V, B, R, N]
        return random.choice("region/anchor", chosen.transpose(0, 1)).transpose(0, 1)


class MostAttended(RegionSampler):
    """Anchors at the patch with the largest attention of one random head: the option `argmax`."""

    def anchors(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        views, _batch, heads, _ = attention.shape
        head = random.integers("region/head", heads, views, self.regions).transpose(0, 1)
        return attention.argmax(dim=-1).gather(2, head)


class Uniform(RegionSampler):
    """Anchors anywhere, for the ablation."""

    def anchors(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        return random.integers("region/anchor", grid[0] * grid[1], attention.shape[0], self.regions).transpose(0, 1)


class Grid(RegionSampler):
    """Anchors evenly spaced over the patches in reading order, the same for every image, for the ablation."""

    def anchors(self, attention: Tensor, grid: tuple[int, int], random: KeyedRandom) -> Tensor:
        steps = (torch.arange(self.regions, device=attention.device) + 0.5) / self.regions
        return (steps * grid[0] * grid[1]).long().expand(*attention.shape[:2], -1)


def region_means(patches: Tensor, regions: Tensor) -> Tensor:
    """Mean patch token of each region: `[..., N, D]` and bool `[..., R, N]` to `[..., R, D]`."""
    weights = regions.to(patches.dtype)
    return weights @ patches / weights.sum(dim=-1, keepdim=True)


class RegionalAttention(nn.Module):
    """`CA(r, Z) = softmax(τ · (r W_q)(Z W_k)ᵀ) (Z W_v)` (paper, Eq. 6), single head, τ = D^{-1/2}.

    Args:
        width: D.
        noise: Standard deviation of the noise added to the identity at initialisation; both are our choice.
    """

    def __init__(self, width: int, noise: float = 0.002) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        for layer in (self.query, self.key, self.value):
            layer.weight.data.copy_(torch.eye(width) + noise * torch.randn(width, width))
        self.temperature = width**-0.5

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay: all, since they start at the identity, not at zero."""
        return {name for name, _ in self.named_parameters()}

    def weights(self, regions: Tensor, patches: Tensor) -> Tensor:
        """Attention of each region over a view: `[..., R, D]` and `[..., N, D]` to `[..., R, N]`, rows sum to one.

        Logits are computed in float32 even inside autocast: in bfloat16, logits around 100 are integers.
        """
        with torch.autocast(patches.device.type, enabled=False):
            regions, tokens = (x if x.dtype == torch.float64 else x.float() for x in (regions, patches))
            scores = self.query(regions) @ self.key(tokens).transpose(-2, -1)
            return (self.temperature * scores).softmax(dim=-1).to(patches.dtype)

    def forward(self, regions: Tensor, patches: Tensor) -> Tensor:
        """Regions in the context of a view, `[..., R, D]`."""
        return self.weights(regions, patches) @ self.value(patches)
