"""Interface of the segmentation heads.

Shapes: B images · D width of the backbone · h×w patches · C classes · H×W pixels · h'×w' the head's own grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from src.core.resizing import resize_scores


class Decoder(nn.Module, ABC):
    """Head from feature maps to logits.

    Attributes:
        blocks: Blocks whose outputs it takes (0 is the first); None for the last one's after the final norm.
        prefix_tokens: True if class tokens and registers pass through the blocks with the patches.
    """

    blocks: Sequence[int] | None = None
    prefix_tokens: bool = True

    @abstractmethod
    def classify(self, maps: list[Tensor]) -> Tensor:
        """Logits on the head's own grid, `[B, C, h', w']`, from maps `[B, D, h, w]`, one per wanted block."""

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits `[B, C, H, W]` at `size` = (H, W), float32 at least."""
        return resize_scores(self.classify(maps), size)
