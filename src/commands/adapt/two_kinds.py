"""Detect two kinds of images in one folder by mean and spread of the frozen model's patches.

Shapes: N images · D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from src.backbones.backbone import Backbone
from src.evaluation.dense_structure import k_means

LEAST = 8  # fewest images for a statement (our choice)
SMALLEST = 0.1  # smallest share of images that counts as a kind (our choice)
# Silhouette from which two clusters are clear (our choice): above that of road scenes, fields or towns alone (CamVid,
# CWFID, LoveDA), below that of road scenes mixed with fields. Class tokens do not separate these.
CLEAR = 0.3


@torch.no_grad()
def two_kinds(backbone: Backbone, images: Tensor) -> str | None:
    """Sentence on two kinds and their shares, or None.

    Args:
        backbone: Used with its adapter off.
        images: uint8 `[N, 3, H, W]`, sides multiples of the patch size.
    """
    if len(images) < LEAST:
        return None
    with backbone.adapters_off():
        parts = [backbone(part.to(backbone.mean.device)).patches.float().cpu() for part in images.split(8)]
    tokens = described(torch.cat(parts))
    labels = clusters(tokens)
    share = float(labels.float().mean())
    if min(share, 1 - share) < SMALLEST or silhouette(F.normalize(tokens, dim=-1), labels) < CLEAR:
        return None
    larger = round(100 * max(share, 1 - share))
    return (
        f"The folder seems to hold two kinds of images, about {larger} % and {100 - larger} % of it: adapting to each "
        "kind separately may work better."
    )


def described(patches: Tensor) -> Tensor:
    """Mean and standard deviation of each image's patches `[N, P, D]`, standardised over the images, `[N, 2 D]`."""
    values = torch.cat((patches.mean(dim=1), patches.std(dim=1)), dim=-1)
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-6)


def clusters(tokens: Tensor) -> Tensor:
    """Cluster, 0 or 1, of each vector `[N, D]`."""
    return k_means(F.normalize(tokens, dim=-1), 2, torch.Generator().manual_seed(0)).labels


def silhouette(points: Tensor, labels: Tensor) -> float:
    """Mean silhouette (Rousseeuw 1987) of points `[N, D]` in two clusters, −1 to 1; 0 for a cluster of one."""
    distances = torch.cdist(points, points)
    values = []
    for place, label in enumerate(labels.tolist()):
        own, other = labels == label, labels != label
        if own.sum() < 2 or not other.any():
            values.append(0.0)
            continue
        inside = float(distances[place][own].sum() / (own.sum() - 1))
        outside = float(distances[place][other].mean())
        values.append((outside - inside) / max(inside, outside, 1e-12))
    return sum(values) / len(values)
