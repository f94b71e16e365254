"""Base class of the heads that classify a pyramid of feature maps."""

from __future__ import annotations

from abc import ABC

from torch import nn

from src.segmentation.decoders.convolution import Norm
from src.segmentation.decoders.decoder import Decoder
from src.segmentation.decoders.pyramid import Pyramid, check_blocks


class PyramidDecoder(Decoder, ABC):
    """Feature pyramid, head-specific fusion, dropout and a linear classification of each cell.

    Args:
        width: Channels of one feature map, D.
        classes: C.
        blocks: Blocks whose outputs form the levels, 0 being the first; the default is for a ViT with 12 blocks.
        scales: Resolution of each level relative to the patch grid, finest first; powers of two.
        channels: Channels of the pyramid.
        norm: `batch`, or `group` for batches of one or two images.
        standardise: Standardise each channel of each map first; our choice, for features of any scale, as those of
            inner blocks are.
        dropout: Share of the channels before the classification that is left out in training; 0.1 as in the field's
            recipes.
        prefix_tokens: False: only patches pass through the blocks, as in UDI's own evaluation, which also has four maps
            of one resolution (`scales` of 1, so that nothing is upsampled before the logits) and standardises nothing.

    Raises:
        UserError: If scales and blocks do not fit each other.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        blocks: tuple[int, ...] = (2, 5, 8, 11),
        scales: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5),
        channels: int = 256,
        norm: Norm = "batch",
        standardise: bool = True,
        dropout: float = 0.1,
        prefix_tokens: bool = True,
    ) -> None:
        super().__init__()
        check_blocks(blocks, scales)
        self.classes = classes
        self.blocks = blocks
        self.prefix_tokens = prefix_tokens
        self.channels = channels
        self.norm = norm
        self.pyramid = Pyramid(width, scales, norm, standardise)
        self.dropout = nn.Dropout2d(dropout)

    def classifier(self, channels: int) -> nn.Conv2d:
        """A new linear classification of each cell, `[B, channels, h, w]` to `[B, C, h, w]`."""
        linear = nn.Conv2d(channels, self.classes, kernel_size=1)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
        return linear
