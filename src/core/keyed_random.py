"""Random numbers keyed by purpose, independent of where they are drawn.

A draw is a pure function of (seed, epoch, sample index, purpose): the same on every device, for every rank, batch size
and order of calls. Two ranks with batch n therefore train on exactly the draws of one process with batch 2n, and a
resumed run continues with the same draws.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import torch
from torch import Tensor

from src.core.float64 import has_float64

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, splitmix64's increment, as signed int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical (zero-filling) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser: a bijection of int64 whose output bits all depend on all input bits."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


class KeyedRandom(NamedTuple):
    """A source of keyed random numbers for one batch.

    Attributes:
        seed: The run's seed.
        epoch: Epoch of each sample, int64 `[B]`.
        indices: Index of each sample in its data set, int64 `[B]`.
    """

    seed: int
    epoch: Tensor
    indices: Tensor

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Float64 numbers in [0, 1), `[B, *shape]`, that depend only on (seed, epoch, index, purpose, position).

        On devices without float64 the same numbers are drawn on the CPU and truncated to float32's 24 bits.
        """
        device = self.indices.device
        epoch, indices = (self.epoch, self.indices) if has_float64(device) else (self.epoch.cpu(), self.indices.cpu())
        words = _mix(torch.full_like(indices, self.seed * 2 + 1) * _GOLDEN)
        for word in (epoch, indices, torch.full_like(indices, zlib.crc32(purpose.encode()))):
            words = _mix(words + (word + 1) * _GOLDEN)
        positions = torch.arange(1, math.prod(shape) + 1, device=indices.device)
        bits = _mix(words[:, None] + positions * _GOLDEN)  # [B, numbers]
        if has_float64(device):
            return (_shift_right(bits, 11).double() * 2.0**-53).view(-1, *shape)
        return (_shift_right(bits, 40).float() * 2.0**-24).view(-1, *shape).to(device)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers `[B, *shape]`, of the type of `uniform`'s (Box–Muller on two of its draws)."""
        radius = torch.sqrt(-2.0 * torch.log1p(-self.uniform(purpose + "/radius", *shape)))
        return radius * torch.cos(2.0 * math.pi * self.uniform(purpose + "/angle", *shape))

    def integers(self, purpose: str, high: int, *shape: int) -> Tensor:
        """Uniform int64 numbers in {0, …, high − 1}, `[B, *shape]`."""
        return (self.uniform(purpose, *shape) * high).long().clamp_(max=high - 1)

    def choice(self, purpose: str, weights: Tensor) -> Tensor:
        """One index per row with probability proportional to the row's weights, by inverting the cumulative sum.

        Args:
            purpose: Purpose of the draw.
            weights: Non-negative `[B, ..., N]`, each row with a positive sum.

        Returns:
            int64 `[B, ...]`.
        """
        cumulative = (weights.double() if has_float64(weights.device) else weights.float()).cumsum(-1)
        target = self.uniform(purpose, *weights.shape[1:-1])[..., None] * cumulative[..., -1:]
        return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)
