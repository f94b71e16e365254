"""Label-free structure of patch features: separation and tightness of clusters, and number of directions.

The Dense representation Structure Estimator (Dai et al., NeurIPS 2025, arXiv 2510.17299): there, higher values went
with higher mIoU over checkpoints and methods. On its own it does not measure this project's gains.

    structure = inter / s + dimension − ½ (intra / s + intra_image / s)

- inter: mean distance of a patch to the nearest centroid that is not its own, k-means over groups of images;
- intra: mean over those clusters of Σ singular values of the centred cluster / √max(patches − 1, D);
- intra_image: the same for clusters within single images;
- dimension: effective rank of all patches over min(patches, D);
- s: mean distance of a patch to the mean of all; patches are L2-normalised first.

Shapes: N images · P patches of one image · D width · K clusters · M patches of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from src.core.errors import UserError
from src.core.float64 import where_float64_is
from src.evaluation.paired_interval import ImageStatistic
from src.evaluation.significance import Array

_ITERATIONS = 20  # of k-means


class Clusters(NamedTuple):
    """Centroids `[K, D]` and the cluster of each patch, int64 `[M]`."""

    centroids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class DenseStructure:
    """The estimate and its parts, each already divided by s; higher is better but for the two intra terms.

    Attributes:
        separability: inter / s − ½ (intra + intra_image) / s.
        inter: Distance to the nearest other centroid.
        intra: Spread within clusters of a group of images.
        intra_image: Spread within clusters of one image.
        dimension: Effective rank over its largest possible value, in (0, 1].
        pseudo_values: Jackknife pseudo-values of `value`, one per image, `[N]`, with the clusters of all images; they
            have the spread of `value`, but not its mean: a cluster of fewer patches is tighter.
    """

    inter: float
    intra: float
    intra_image: float
    dimension: float
    pseudo_values: Array

    @property
    def separability(self) -> float:
        """inter − ½ (intra + intra_image)."""
        return self.inter - 0.5 * (self.intra + self.intra_image)

    @property
    def value(self) -> float:
        """The estimate."""
        return self.separability + self.dimension

    def statistic(self) -> StructureStatistic:
        """For intervals over images (`paired_interval`)."""
        return StructureStatistic(self)


class StructureStatistic(ImageStatistic):
    """The structure with a bootstrap over its pseudo-values, because clustering every resampled set takes too long."""

    def __init__(self, structure: DenseStructure) -> None:
        self._value, self._pseudo = structure.value, structure.pseudo_values

    @property
    def images(self) -> int:
        """N."""
        return len(self._pseudo)

    def value(self) -> float:
        """The estimate."""
        return self._value

    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """Means of resampled pseudo-values, `[B]`."""
        drawn: Array = weights @ self._pseudo / len(self._pseudo)
        return drawn


class _Sums(NamedTuple):
    """Parts of the structure before division, of all images or of all but one."""

    inter: Tensor
    intra: Tensor
    intra_image: Tensor
    dimension: Tensor
    spread: Tensor

    def value(self) -> Tensor:
        separability = (self.inter - 0.5 * (self.intra + self.intra_image)) / self.spread
        return separability + self.dimension


def dense_structure(patches: Tensor, image_clusters: int = 3, clusters: int = 24, seed: int = 0) -> DenseStructure:
    """Measure the patch features of held-out images.

    Args:
        patches: `[N, P, D]`, not normalised; computed in at least float32 on their device.
        image_clusters: Clusters within one image (3 in the paper).
        clusters: Clusters of a group of `clusters // image_clusters` consecutive images (24 in the paper).
        seed: Random seed of the k-means++ starts.

    Raises:
        UserError: If there are fewer than two images or two patches, a feature is not finite, or all are the same.
    """
    if patches.ndim != 3 or min(patches.shape) < 1 or len(patches) < 2 or patches.shape[1] < 2:
        raise UserError(
            "dense structure: expected patches [N, P, D] of at least 2 images and 2 patches, found shape "
            f"{list(patches.shape)}"
        )
    if not bool(patches.isfinite().all()):
        raise UserError("dense structure: expected finite features, found NaN or infinite values")
    patches = where_float64_is(patches)
    features = F.normalize(patches.float() if patches.dtype.itemsize < 4 else patches, dim=-1)
    images, per_image = features.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    own = torch.stack([_own_spread(image, image_clusters, generator) for image in features])  # [N]
    size = max(clusters // image_clusters, 1)
    parts = [_Group(group, clusters, generator) for group in features.split(size)]
    grams = [image.T.double() @ image.double() for image in features]  # of each image, [D, D]
    gram, total = torch.stack(grams).sum(dim=0), features.double().sum(dim=(0, 1))

    def sums(left_out: int | None) -> _Sums:
        kept = [index for index in range(images) if index != left_out]
        intra = [
            part.intra(left_out - size * place if left_out is not None else None) for place, part in enumerate(parts)
        ]
        rest = features[kept]
        mean = total if left_out is None else total - features[left_out].double().sum(dim=0)
        centre = (mean / (len(kept) * per_image)).to(features.dtype)
        return _Sums(
            torch.cat([part.inter for part in parts])[kept].mean(),
            torch.cat(intra).mean(),
            own[kept].mean(),
            _dimension(gram if left_out is None else gram - grams[left_out], len(kept) * per_image),
            (rest - centre).norm(dim=-1).mean(),
        )

    whole = sums(None)
    if not float(whole.spread) > 1e-6:
        raise UserError("dense structure: all patch features are the same; expected features that vary")
    value = float(whole.value())
    pseudo = np.array([images * value - (images - 1) * float(sums(index).value()) for index in range(images)])
    spread = whole.spread
    return DenseStructure(
        inter=float(whole.inter / spread),
        intra=float(whole.intra / spread),
        intra_image=float(whole.intra_image / spread),
        dimension=float(whole.dimension),
        pseudo_values=pseudo,
    )


class _Group:
    """A group of images clustered together.

    Attributes:
        inter: Mean distance of each image's patches to the nearest centroid that is not their own, `[images]`.
    """

    def __init__(self, features: Tensor, clusters: int, generator: torch.Generator) -> None:
        images, per_image = features.shape[:2]
        self._patches = features.flatten(0, 1)
        centroids, self._labels = k_means(self._patches, clusters, generator)
        self._owner = torch.arange(images, device=features.device).repeat_interleave(per_image)
        self._images = images
        distances = torch.cdist(self._patches, centroids)
        distances.scatter_(1, self._labels[:, None], torch.inf)
        nearest = distances.min(dim=1).values if len(centroids) > 1 else distances.new_zeros(len(distances))
        self.inter = nearest.view(images, per_image).mean(dim=1)
        self._whole: Tensor | None = None

    def intra(self, left_out: int | None) -> Tensor:
        """Spread of each cluster, `[clusters of two patches or more]`, optionally without one image of the group."""
        if left_out is None or not 0 <= left_out < self._images:
            if self._whole is None:
                self._whole = _spreads(self._patches, self._labels)
            return self._whole
        kept = self._owner != left_out
        return _spreads(self._patches[kept], self._labels[kept])


def k_means(patches: Tensor, clusters: int, generator: torch.Generator) -> Clusters:
    """Lloyd's iterations from a k-means++ start; an empty cluster keeps its centroid.

    Args:
        patches: `[M, D]`.
        clusters: K; M where there are fewer patches.
        generator: Generator for the start, on the CPU, so that every device draws the same.
    """
    count = min(clusters, len(patches))
    random = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    chosen = [int(random[0] * len(patches))]
    nearest = torch.cdist(patches, patches[chosen]).squeeze(1).square()
    for draw in random[1:]:
        mass = nearest.double().cumsum(0)
        target = draw * mass[-1:]
        chosen.append(int(torch.searchsorted(mass, target, right=True).clamp(max=len(patches) - 1)))
        nearest = torch.minimum(nearest, torch.cdist(patches, patches[chosen[-1:]]).squeeze(1).square())
    centroids = patches[chosen]
    labels = torch.cdist(patches, centroids).argmin(dim=1)
    for _ in range(_ITERATIONS):
        members = F.one_hot(labels, count).to(patches.dtype)  # [M, K]
        sizes = members.sum(dim=0)[:, None]
        centroids = torch.where(sizes > 0, members.T @ patches / sizes.clamp(min=1), centroids)
        before, labels = labels, torch.cdist(patches, centroids).argmin(dim=1)
        if torch.equal(before, labels):
            break
    return Clusters(centroids, labels)


def _own_spread(image: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Mean spread of the clusters of one image's patches `[P, D]`."""
    spreads = _spreads(image, k_means(image, clusters, generator).labels)
    return spreads.mean() if len(spreads) else image.new_zeros(())


def _spreads(patches: Tensor, labels: Tensor) -> Tensor:
    """Σ σ / √max(n − 1, D) of each centred cluster of n ≥ 2 patches, σ its singular values."""
    spreads = []
    for label in labels.unique().tolist():
        members = patches[labels == label]
        if len(members) > 1:
            centred = (members - members.mean(dim=0)).double()
            gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
            singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
            spreads.append((singular.sum() / math.sqrt(max(len(members) - 1, members.shape[1]))).to(patches.dtype))
    return torch.stack(spreads) if spreads else patches.new_zeros(0)


def _dimension(gram: Tensor, patches: int) -> Tensor:
    """Effective rank (Roy and Vetterli 2007) of `patches` features with Gram matrix `[D, D]`, over its maximum."""
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    shares = singular / singular.sum()
    entropy = -torch.special.xlogy(shares, shares).sum()
    return entropy.exp() / min(patches, len(gram))
