"""Two 1×1 convolutions on the patch features."""

from __future__ import annotations

from torch import Tensor, nn

from src.segmentation.decoders.decoder import Decoder


class TwoLayerDecoder(Decoder):
    """A hidden layer between features and classes.

    Args:
        width: Channels of one feature map, D; given by the model.
        classes: C; given by the model.
        hidden: Channels of the hidden layer.
    """

    def __init__(self, width: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, classes, 1))

    def classify(self, maps: list[Tensor]) -> Tensor:
        """Logits `[B, C, h, w]`, one per patch."""
        return self.layers(maps[0])
