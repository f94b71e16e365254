"""Batch norm over the global batch, so that a head does not depend on the number of processes.

Shapes: B images of one process · C channels · H×W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.core.distributed import differentiable_sum, ranks, sum_over_ranks


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with training statistics over all processes; bit-identical on one process.

    torch's SyncBatchNorm only supports GPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """`[B, C, H, W]`, standardised by the mean and variance of each channel."""
        if not self.training or ranks() == 1:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        values = input if input.dtype == torch.float64 else input.float()
        count = sum_over_ranks(values.new_tensor(float(values[:, 0].numel())))
        mean = differentiable_sum(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = differentiable_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum or 0.0)
            unbiased = variance * count / (count - 1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum or 0.0)
        normed = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return normed.to(input.dtype)
