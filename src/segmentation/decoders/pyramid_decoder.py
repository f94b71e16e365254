"""The common part of the heads that classify a pyramid of feature maps."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from torch import nn

from src.segmentation.decoders.convolution import Norm
from src.segmentation.decoders.decoder import Decoder
from src.segmentation.decoders.pyramid import Pyramid, check_blocks


class PyramidDecoder(Decoder, ABC):
    """A pyramid at the bottom, and dropout before a linear classification of each cell at the top.

    Args:
        width: Channels of one feature map, D.
        blocks: Blocks whose outputs make the levels.
        scales: Resolution of each level relative to the patch grid, finest first; powers of two.
        norm: `batch`, or `group` for batches of one or two images.
        standardise: Standardise each channel of each map first.

    Raises:
        UserError: If scales and blocks do not fit each other.
    """

    def __init__(
        self, width: int, blocks: tuple[int, ...], scales: Sequence[float], norm: Norm, standardise: bool
    ) -> None:
        super().__init__()
        check_blocks(blocks, scales)
        self.blocks = blocks
        self.pyramid = Pyramid(width, scales, norm, standardise)

    def add_classifier(self, channels: int, classes: int, dropout: float) -> None:
        """Make `dropout` and `linear`, `[B, channels, h', w']` to `[B, classes, h', w']`."""
        self.dropout = nn.Dropout2d(dropout)
        self.linear = nn.Conv2d(channels, classes, kernel_size=1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)  # type: ignore[arg-type]
