"""Network shared by student and teacher: backbone with adapters, regional attention and projection head.

Shapes: V global views · L local views · B images · S side in pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from src.backbones.backbone import Backbone
from src.backbones.features import Features
from src.pretraining.head import Head
from src.pretraining.regions import RegionalAttention


class NetworkOutput(NamedTuple):
    """One network's view of a batch, and the modules that score it; what every objective receives.

    Attributes:
        features: Tokens of the global views, each with leading axes `[V, B]`.
        local_cls: Class tokens of the local views, `[L, B, D]`; None where there are none.
        head: Tokens to scores over prototypes.
        context: Regional cross-attention; None where no objective uses it.
        temperature: Temperature of the softmax over this branch's scores.
        frozen: Tokens that the frozen backbone, adapters off, makes of the same views; None unless asked for.
    """

    features: Features
    local_cls: Tensor | None
    head: Head
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

    def __init__(self, backbone: Backbone, head: Head, context: RegionalAttention | None) -> None:
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
        backbone_learns: bool = True,
    ) -> NetworkOutput:
        """Features of a batch of views.

        Args:
            images: Global views `[V, B, 3, S, S]`.
            temperature: Temperature of this branch's softmax.
            attention: Also give the class token's attention.
            local_images: Local views `[L, B, 3, s, s]`, or None.
            frozen: Also give the features with adapters off.
            backbone_learns: Whether gradients reach into the backbone; without, its parameters get zeros.
        """
        views = images.shape[0]
        features = self._features(images.flatten(0, 1), attention, backbone_learns).split_views(views)
        local_cls = None
        if local_images is not None:
            local = self._features(local_images.flatten(0, 1), False, backbone_learns)
            local_cls = local.cls.unflatten(0, local_images.shape[:2])
        original = None
        if frozen:
            with self.backbone.adapters_off():
                original = self.backbone(images.flatten(0, 1)).split_views(views)
        return NetworkOutput(features, local_cls, self.head, self.context, temperature, original)

    def _features(self, images: Tensor, attention: bool, learns: bool) -> Features:
        if learns or not torch.is_grad_enabled():
            features: Features = self.backbone(images, attention)
            return features
        with torch.no_grad():
            features = self.backbone(images, attention)
        trained = [parameter for _, parameter in self.backbone.trainable()]
        cls, extra, patches = _EndHere.apply(features.cls, features.extra, features.patches, *trained)
        return Features(cls, extra, patches, features.attention, features.grid)


class _EndHere(Function):
    """Tokens as they are; backward ends here and gives every parameter zeros.

    Zeros and not nothing: DDP waits for the gradient of every parameter that requires one.
    """

    @staticmethod
    def forward(ctx: Any, cls: Tensor, extra: Tensor, patches: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*parameters)
        return tuple(tokens.view_as(tokens) for tokens in (cls, extra, patches))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors))
