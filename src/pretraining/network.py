"""What student and teacher both are: backbone with adapters, regional attention and projection head.

Shapes: V global views · L local views · B images · S side in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from src.backbones.backbone import Backbone
from src.backbones.features import Features
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.regions import RegionalAttention


class NetworkOutput(NamedTuple):
    """One network's view of a batch, and the modules that score it; what every objective receives.

    Attributes:
        features: Tokens of the global views, each with leading axes `[V, B]`.
        local_cls: Class tokens of the local views, `[L, B, D]`; None where there are none.
        head: Tokens to scores over prototypes.
        context: Regional cross-attention; None where no objective uses it.
        temperature: Of the softmax over this branch's scores.
        frozen: Tokens that the frozen backbone, adapters off, makes of the same views; None unless asked for.
    """

    features: Features
    local_cls: Tensor | None
    head: ProjectionHead
    context: RegionalAttention | None
    temperature: float
    frozen: Features | None = None


class Network(nn.Module):
    """The parts that exist once for the student and once, as their moving average, for the teacher.

    Args:
        backbone: Frozen ViT with adapters, `f` and `A`.
        head: Projection head, `h`.
        context: Regional cross-attention, `c`, or None.
    """

    def __init__(self, backbone: Backbone, head: ProjectionHead, context: RegionalAttention | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.context = context

    def forward(
        self,
        images: Tensor,
        temperature: float,
        attention: bool = False,
        local_images: Tensor | None = None,
        frozen: bool = False,
    ) -> NetworkOutput:
        """Features of a batch of views.

        Args:
            images: Global views `[V, B, 3, S, S]`.
            temperature: Of this branch's softmax.
            attention: Also give the class token's attention.
            local_images: Local views `[L, B, 3, s, s]`, or None.
            frozen: Also give the features with adapters off.
        """
        views = images.shape[0]
        features = self.backbone(images.flatten(0, 1), attention).split_views(views)
        local_cls = None
        if local_images is not None:
            local_cls = self.backbone(local_images.flatten(0, 1)).cls.unflatten(0, local_images.shape[:2])
        original = None
        if frozen:
            with self.backbone.adapters_off():
                original = self.backbone(images.flatten(0, 1)).split_views(views)
        return NetworkOutput(features, local_cls, self.head, self.context, temperature, original)
