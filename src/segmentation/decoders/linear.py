"""Linear head: one matrix on the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.core.errors import UserError
from src.segmentation.decoders.batch_norm import BatchNorm
from src.segmentation.decoders.decoder import Decoder


class LinearDecoder(Decoder):
    """One 1×1 convolution on the patch features, bilinear upsampling after it.

    Args:
        width: Channels of one feature map, D.
        classes: C.
        batch_norm: Standardise each channel first (running statistics; no scale and shift of its own, which the
            convolution has already). On by default (ours), for features of any scale, as those of inner blocks are.
            Features after the final norm do not need it: on CamVid they converge in fewer epochs without.
        blocks: Blocks whose outputs are concatenated; None for the last one's after the final norm.

    Raises:
        UserError: If `blocks` is an empty list.
    """

    def __init__(self, width: int, classes: int, batch_norm: bool = True, blocks: list[int] | None = None) -> None:
        super().__init__()
        if blocks is not None and not blocks:
            raise UserError("LinearDecoder: blocks is empty; name at least one block, or leave it out for the last")
        self.blocks = blocks
        channels = width * (1 if blocks is None else len(blocks))
        self.norm = BatchNorm(channels, affine=False) if batch_norm else nn.Identity()
        self.linear = nn.Conv2d(channels, classes, kernel_size=1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)  # type: ignore[arg-type]

    def classify(self, maps: list[Tensor]) -> Tensor:
        """Logits `[B, C, h, w]`, one per patch."""
        return self.linear(self.norm(torch.cat(maps, dim=1)))
