"""Network shared by student and teacher: backbone with adapters, regional attention and projection head.

Shapes: V global views · L local views · B images · S side in pixels.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from src.backbones.backbone import Backbone
from src.backbones.features import Features
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.pretraining.head import Head
from src.pretraining.regions import RegionalAttention


class NetworkOutput(NamedTuple):
    """Output of one network on a batch, and the modules that score it, as passed to every objective.

    Attributes:
        features: Tokens of the global views, each with leading axes `[V, B]`.
        local_cls: Class tokens of the local views, `[L, B, D]`; None if there are none.
        head: Tokens to scores over prototypes.
        context: Regional cross-attention; None where no objective uses it.
        temperature: Temperature of the softmax over this network's scores.
        frozen: Tokens of the frozen backbone, adapters off, for the same views, computed on request.
    """

    features: Features
    local_cls: Tensor | None
    head: Head
    context: RegionalAttention | None
    temperature: float
    frozen: FrozenFeatures | None = None


class FrozenFeatures:
    """The frozen backbone's tokens of a batch of views, computed on request, without gradients.

    Args:
        backbone: Its adapters are turned off meanwhile.
        images: Views `[V, B, 3, S, S]`, float in [0, 1].
    """

    def __init__(self, backbone: Backbone, images: Tensor) -> None:
        self.backbone = backbone
        self.images = images

    @cached_property
    def patches(self) -> Tensor:
        """Patch tokens `[V, B, N, D]` of the original views."""
        return self.augmented(1.0, mirrored=False)

    def augmented(self, scale: float, mirrored: bool) -> Tensor:
        """Patch tokens `[V, B, N, D]` of the views at another scale or mirrored, resampled to the views' own grid.

        Args:
            scale: Magnification of the views, to the nearest multiple of the patch size.
            mirrored: Left to right.
        """
        images = self.images.flatten(0, 1)
        with torch.no_grad(), self.backbone.adapters_off():
            view = TestTimeAveraging(self._maps, self.backbone.patch_size, (scale,), flip=False)
            maps = view(images.flip(-1)).flip(-1) if mirrored else view(images)
        return maps.flatten(2).transpose(1, 2).unflatten(0, self.images.shape[:2])

    def _maps(self, images: Tensor) -> Tensor:
        features: Features = self.backbone(images)
        return features.patches.transpose(1, 2).unflatten(-1, features.grid)


class Network(nn.Module):
    """Parts that exist once for the student and once, as a moving average, for the teacher.

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
        backbone_learns: bool = True,
    ) -> NetworkOutput:
        """Features of a batch of views.

        Args:
            images: Global views `[V, B, 3, S, S]`.
            temperature: Temperature of this network's softmax.
            attention: Also return the class token's attention.
            local_images: Local views `[L, B, 3, s, s]`, or None.
            backbone_learns: True if gradients reach the backbone; otherwise its parameters get zeros.
        """
        views = images.shape[0]
        features = self._features(images.flatten(0, 1), attention, backbone_learns).split_views(views)
        local_cls = None
        if local_images is not None:
            local = self._features(local_images.flatten(0, 1), False, backbone_learns)
            local_cls = local.cls.unflatten(0, local_images.shape[:2])
        frozen = FrozenFeatures(self.backbone, images)
        return NetworkOutput(features, local_cls, self.head, self.context, temperature, frozen)

    def without_features(self, images: Tensor, temperature: float) -> NetworkOutput:
        """Output for objectives that read no tokens of this network, with features of no view.

        Args:
            images: Global views `[V, B, 3, S, S]`, for the frozen backbone.
            temperature: Temperature of this network's softmax.
        """
        none = images.new_empty(0, images.shape[1], 0, self.backbone.width)
        features = Features(none.sum(2), none, none, None, (0, 0))
        return NetworkOutput(
            features, None, self.head, self.context, temperature, FrozenFeatures(self.backbone, images)
        )

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
    """Pass tokens on; backward ends here and gives every parameter a zero gradient.

    Zeros instead of no gradients, since DDP waits for one from every trainable parameter.
    """

    @staticmethod
    def forward(ctx: Any, cls: Tensor, extra: Tensor, patches: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*parameters)
        return tuple(tokens.view_as(tokens) for tokens in (cls, extra, patches))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors))
