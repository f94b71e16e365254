"""Convolution, norm and ReLU: the building block of larger heads."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from src.segmentation.decoders.batch_norm import BatchNorm

Norm = Literal["batch", "group"]


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Batch norm, or group norm, whose result depends on no other image: 32 groups or fewer, of 8 channels or more."""
    if norm == "batch":
        return BatchNorm(channels)
    return nn.GroupNorm(max(1, math.gcd(256, channels) // 8), channels)


def conv_norm_relu(inputs: int, outputs: int, kernel: int, norm: Norm) -> nn.Sequential:
    """A convolution that keeps the size, without a bias (the norm has one), a norm and a ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, make_norm(norm, outputs), nn.ReLU())
