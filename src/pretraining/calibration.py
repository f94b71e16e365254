"""Statistics and prototypes of a calibrated head, from frozen tokens of training images (docs/method.md, section 12).

Shapes: V views · B images · N patches · D width · K prototypes · n sampled tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.views import Crops
from src.backbones.backbone import Backbone
from src.core.distributed import this_rank_alone
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.whitening import WhiteningStatistics
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.kmeans import spherical_kmeans

IMAGES = 256  # images with two views each: half a minute on two cores for a ViT-S at 168 px (our choice)
SAMPLED_PATCHES = 64  # tokens per view for k-means, 2^15 at most; the covariance is over all patches (our choice)


@runtime_checkable
class GivesCleanViews(Protocol):
    """A data module that gives views without colour augmentation (`datamodules.base.DomainDataModule`)."""

    def clean_views(self, images: int) -> Iterable[Crops]:
        """Two views of each of about `images` training images, the same on every rank."""


class Calibration(NamedTuple):
    """Initial values of a calibrated head; float32, on the CPU.

    Attributes:
        mean: Mean of the frozen tokens, `[D]`.
        projection: Projection of the soft whitening, `[D, D]`.
        prototypes: Unit vectors in the whitened space, `[K, D]`.
    """

    mean: Tensor
    projection: Tensor
    prototypes: Tensor


@torch.no_grad()
def calibration(backbone: Backbone, head: CalibratedHead, views: Iterable[Crops], seed: int) -> Calibration:
    """Compute statistics and prototypes on training images with the frozen backbone.

    Args:
        backbone: With or without an adapter, which is turned off here.
        head: Defines K, ε and the origin of prototypes.
        views: Batches of training images; the first `IMAGES` images are used (an image seen in two epochs counts
            twice).
        seed: Seed of the sampled patches and of the k-means.

    Raises:
        UserError: If there is no image, the tokens do not vary, or there are fewer tokens than prototypes.
    """
    device = backbone.mean.device
    statistics, sampled, seen = WhiteningStatistics(backbone.width, head.epsilon), [], 0
    for crops in views:
        images = crops.global_views.images.to(device)  # [V, B, 3, S, S]
        with backbone.adapters_off():
            patches = backbone(images.flatten(0, 1)).patches.unflatten(0, images.shape[:2])  # [V, B, N, D]
        statistics.accumulate(patches)
        random = KeyedRandom(seed, crops.epoch.to(device), crops.indices.to(device))
        order = random.uniform("calibration/patches", len(patches), patches.shape[2]).transpose(0, 1).argsort(dim=-1)
        chosen = order[..., :SAMPLED_PATCHES, None].expand(-1, -1, -1, backbone.width)  # [V, B, M, D]
        sampled.append(patches.gather(2, chosen).flatten(0, 2).float())
        seen += len(crops.indices)
        if seen >= IMAGES:
            break
    if not sampled:
        raise UserError("a calibrated head needs training images to take its prototypes from, found none")
    with this_rank_alone():  # computed by the first rank for all
        whitening = statistics.finish()
    count, width = head.prototypes.weight.shape
    if head.centroids == "kmeans":
        prototypes = spherical_kmeans(whitening.to(device)(torch.cat(sampled)), count, seed)
    else:
        zero = torch.zeros(1, dtype=torch.int64)
        prototypes = F.normalize(
            KeyedRandom(seed, zero, zero).normal("calibration/prototypes", count, width)[0], dim=-1
        )
    return Calibration(whitening.mean.cpu(), whitening.projection.cpu(), prototypes.float().cpu())
