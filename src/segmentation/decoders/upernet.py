"""UPerNet: pyramid pooling on top of a feature pyramid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.core.distributed import ranks
from src.core.errors import UserError
from src.segmentation.decoders.convolution import Norm, conv_norm_relu
from src.segmentation.decoders.pyramid import top_down
from src.segmentation.decoders.pyramid_decoder import PyramidDecoder


class UPerNet(PyramidDecoder):
    """Unified Perceptual Parsing's segmentation head (arXiv 1807.10221, section 3.1) on a ViT.

    Maps of several blocks become a pyramid; the coarsest level is pooled in bins of several sizes for global context;
    an FPN adds it to the finer ones; all are fused at the finest one's size and classified. The paper uses 512
    channels.

    Args:
        width: Channels of one feature map, D.
        classes: C.
        bins: The coarsest level is averaged over 1×1, 2×2, … parts of the image; as in the paper.
        pyramid: See `PyramidDecoder`; its `channels` are those of the fusion as well.

    Raises:
        UserError: If scales and blocks do not fit each other.
    """

    def __init__(self, width: int, classes: int, bins: tuple[int, ...] = (1, 2, 3, 6), **pyramid: Any) -> None:
        super().__init__(width, classes, **pyramid)
        channels, norm = self.channels, self.norm
        levels = len(self.pyramid.exponents)
        finer = range(levels - 1)
        self.laterals = nn.ModuleList(conv_norm_relu(width, channels, 1, norm) for _ in finer)
        self.pooling = PyramidPooling(width, channels, bins, norm)
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels, 3, norm) for _ in finer)
        self.fuse = conv_norm_relu(levels * channels, channels, 3, norm)
        self.linear = self.classifier(channels)

    def classify(self, maps: list[Tensor]) -> Tensor:
        """Logits at the finest level's size, `[B, C, h', w']`."""
        *finer, coarsest = self.pyramid(maps)
        laterals = [lateral(level) for lateral, level in zip(self.laterals, finer, strict=True)]
        *finer, coarsest = top_down([*laterals, self.pooling(coarsest)], "bilinear")
        levels = [smooth(level) for smooth, level in zip(self.smooth, finer, strict=True)] + [coarsest]
        size = levels[0].shape[-2:]
        return self.linear(self.dropout(self.fuse(torch.cat([_resized(level, size) for level in levels], dim=1))))


class PyramidPooling(nn.Module):
    """Averages of the whole image, its quarters, its ninths, …, appended to each cell (arXiv 1612.01105).

    Args:
        width: Channels of the level.
        channels: Channels of each bin size, and of the result.
        bins: Parts along each side.
        norm: After each convolution.
    """

    def __init__(self, width: int, channels: int, bins: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        self.bins = bins
        self.branches = nn.ModuleList(conv_norm_relu(width, channels, 1, norm) for _ in bins)
        self.fuse = conv_norm_relu(width + len(bins) * channels, channels, 3, norm)

    def forward(self, level: Tensor) -> Tensor:
        """`[B, channels, h_l, w_l]` from `[B, D, h_l, w_l]`.

        Raises:
            UserError: If one image would be batch-normalised over a single bin, which has no variance.
        """
        if self.training and len(level) * ranks() == 1 and 1 in self.bins and isinstance(self.fuse[1], nn.BatchNorm2d):
            raise UserError(
                "UPerNet: batch norm over one image's global average has no variance; train on a batch of two images "
                "or more, or set the decoder's norm to group"
            )
        parts = [
            _resized(branch(F.adaptive_avg_pool2d(level, bins)), level.shape[-2:])
            for branch, bins in zip(self.branches, self.bins, strict=True)
        ]
        return self.fuse(torch.cat([level, *parts], dim=1))


def _resized(level: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(level, size=size, mode="bilinear", align_corners=False)
