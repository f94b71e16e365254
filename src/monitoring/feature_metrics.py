"""Feature metrics on a fixed sample during adaptation, each with its value for the frozen backbone.

Shapes: V views · B images · N = h·w patches · D width · C classes · K prototypes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.views import Batch, Crops, Views
from src.backbones.backbone import Backbone
from src.backbones.features import Features
from src.core.distributed import this_rank_alone
from src.core.float64 import where_float64_is
from src.core.keyed_random import KeyedRandom
from src.evaluation.confusion import scores_from_confusion
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.dense_structure import DenseStructure, dense_structure
from src.evaluation.linear_probe import RidgeProbe
from src.evaluation.paired_interval import paired_interval
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.evaluation.rank import effective_rank
from src.evaluation.retention import retention
from src.pretraining.consistency import Objective
from src.pretraining.correspondence import locate, patch_centres, sample_bilinear
from src.pretraining.network import FrozenFeatures, Network, NetworkOutput

CHUNK = 32  # images at a time through the backbone: bounds the memory
RANKED_PATCHES = 1024  # evenly spaced rows of the sample: singular values of more are not worth their cost (our choice)
# images whose targets are computed, about a small run's batch: heads cost as much as backbones (our choice)
LEVEL_IMAGES = 8


class LabelledSample(Protocol):
    """Images uint8 `[B, 3, S, S]`, and their masks, a list of uint8 `[h, w]`."""

    @property
    def images(self) -> Tensor: ...
    @property
    def masks(self) -> Any: ...


class Sample(Protocol):
    """Views of unlabelled images; and labelled ones as a reference (bank) and to predict (queries), or None."""

    @property
    def crops(self) -> Crops: ...
    @property
    def bank(self) -> LabelledSample | None: ...
    @property
    def queries(self) -> LabelledSample | None: ...


class MetricPair(NamedTuple):
    """One metric of the adapted and of the frozen backbone."""

    adapted: float
    frozen: float


class FeatureMetrics:
    """Measures a backbone repeatedly on one sample; the frozen values are cached.

    | name | range | meaning |
    | --- | --- | --- |
    | `rank/cls`, `rank/patches` | 1 to D | RankMe of the features |
    | `cosine/cls`, `cosine/patches` | −1 to 1 | mean cosine to the frozen features; 1 if equal |
    | `agreement` | −1 to 1 | mean centred cosine of patches of two views at the same ground point |
    | `structure` | about 1 | dense structure of the patches of one view (`dense_structure`) |
    | `structure/upper` | | the same at the upper end of the interval, over images, of its change from frozen |
    | `retention` | at most 1 | share of the frozen patches' variance that the adapted ones recover (`retention`) |
    | `kl_uniform/<level>` | 0 to log K | mean KL divergence, nats, of an objective's targets to uniform |
    | `kl_mean/<level>` | 0 to log K | the same to their own mean: how much targets differ between patches |
    | `entropy/<level>` | 0 to 1 | mean entropy of an objective's targets, over log K |
    | `usage/<level>` | 1 to K | effective number of prototypes that the targets use |
    | `knn`, `probe` | 0 to 1 | mIoU on the queries: 30 nearest neighbours, ridge regression; with masks only |

    Args:
        backbone: The backbone to measure, with its adapter installed.
        sample: Images to measure on.
        classes: C and the ignore index, where the sample has masks.
    """

    def __init__(self, backbone: Backbone, sample: Sample, classes: tuple[int, int] | None) -> None:
        device = backbone.mean.device
        self.backbone = backbone
        self.views = Views(*(part.to(device) for part in sample.crops.global_views))
        self.indices = sample.crops.indices.to(device)
        self.labels: Labels | None = None
        if sample.bank is not None and sample.queries is not None and classes is not None:
            self.labels = Labels(sample.bank, sample.queries, *classes, device)
        with torch.no_grad(), backbone.adapters_off():
            self.original = features_of(backbone, self.views.images)
            self._structure = _structure_of(self.original)
            self.frozen = self._of_features(self.original)

    @torch.no_grad()
    def measure(
        self, network: Network, objectives: Mapping[str, Objective], temperature: float
    ) -> dict[str, MetricPair]:
        """All metrics of a network with the measured backbone.

        Args:
            network: The teacher's: its head and context score both the adapted and the frozen features.
            objectives: Their targets are measured; they are not changed.
            temperature: Temperature of the targets.

        Returns:
            NaN for every adapted value where a feature is NaN or infinite.
        """
        features = features_of(self.backbone, self.views.images)
        frozen = self.frozen | self._of_targets(self.original, network, objectives, temperature)
        if not bool(features.patches.isfinite().all() and features.cls.isfinite().all()):
            return {name: MetricPair(math.nan, value) for name, value in frozen.items()}
        adapted = self._of_features(features) | self._of_targets(features, network, objectives, temperature)
        return {name: MetricPair(adapted[name], frozen[name]) for name in adapted}

    def _of_features(self, features: Features) -> dict[str, float]:
        patches = features.patches.flatten(0, 2)  # [V·B·N, D]
        signs = {
            "rank/cls": effective_rank(features.cls.flatten(0, 1)),
            "rank/patches": effective_rank(patches[:: math.ceil(len(patches) / RANKED_PATCHES)]),
            "cosine/cls": float(F.cosine_similarity(features.cls, self.original.cls, dim=-1).mean()),
            "cosine/patches": float(F.cosine_similarity(features.patches, self.original.patches, dim=-1).mean()),
            "agreement": agreement(features.patches, self.views, features.grid),
            **self._of_structure(features),
        }
        return signs if self.labels is None else signs | self.labels.scores(self.backbone)

    def _of_structure(self, features: Features) -> dict[str, float]:
        """NaN if all patches are the same, as the rank shows; empty if the frozen ones are."""
        if self._structure is None:
            return {}
        structure = _structure_of(features)
        if structure is None:
            return dict.fromkeys(("structure", "structure/upper", "retention"), math.nan)
        change = paired_interval([self._structure.statistic()], [structure.statistic()])
        return {
            "structure": structure.value,
            "structure/upper": self._structure.value + change.high,
            "retention": retention(self.original.patches[0], features.patches[0]).value(),
        }

    def _of_targets(
        self, features: Features, network: Network, objectives: Mapping[str, Objective], temperature: float
    ) -> dict[str, float]:
        """Entropy and usage of each objective's targets, computed on copies because centres move with every batch."""
        some = _first(features, LEVEL_IMAGES)
        views = Views(*(part[:, :LEVEL_IMAGES] for part in self.views))
        frozen = FrozenFeatures(self.backbone, views.images)
        branch = NetworkOutput(some, None, network.head, network.context, temperature, frozen)
        indices = self.indices[:LEVEL_IMAGES]
        batch = Batch(views, views, torch.ones(some.patches.shape[:3], dtype=torch.bool, device=indices.device), None)
        random = KeyedRandom(0, torch.zeros_like(indices), indices)
        prototypes = len(network.head.weight)
        signs: dict[str, float] = {}
        with this_rank_alone():
            for name, objective in objectives.items():
                if objective.needs_indices:  # those of the sample number other images
                    continue
                term = copy.deepcopy(objective)(branch, branch, batch, random)
                if term.target_entropy is not None and term.prototypes_used is not None:
                    signs[f"entropy/{name}"] = float(term.target_entropy) / math.log(prototypes)
                    signs[f"usage/{name}"] = float(term.prototypes_used)
                    signs[f"kl_uniform/{name}"] = math.log(prototypes) - float(term.target_entropy)
                    signs[f"kl_mean/{name}"] = math.log(float(term.prototypes_used)) - float(term.target_entropy)
        return signs


class Labels:
    """Labelled part of a sample: predicts patches of some images from a bank of patches of others.

    Scores are the mIoU of patch predictions enlarged to the masks by nearest neighbour, exactly, from patch counts.

    Args:
        bank: Reference images.
        queries: Images to predict.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        device: Device of the computation.
    """

    def __init__(
        self, bank: LabelledSample, queries: LabelledSample, num_classes: int, ignore_index: int, device: torch.device
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.bank, self.queries = bank.images.to(device), queries.images.to(device)
        self.masks = bank.masks, queries.masks
        self._counts: tuple[Tensor, Tensor] | None = None

    def scores(self, backbone: Backbone) -> dict[str, float]:
        """mIoU of nearest neighbours and of the ridge probe."""
        bank, queries = (features_of(backbone, images[None]) for images in (self.bank, self.queries))
        known, truth = self._patch_counts(bank.grid)
        fractions, labelled = (part.flatten(0, 1) for part in patch_fractions(known))
        features, asked = bank.patches[0].flatten(0, 1)[labelled], queries.patches[0].flatten(0, 1)  # [·, D]
        fractions = fractions[labelled].to(features.dtype)
        probe = RidgeProbe(features.shape[1], self.num_classes)
        probe.update(features, fractions)
        neighbours = DenseKNN(F.normalize(features, dim=-1), fractions)
        return {
            "knn": self._miou(neighbours.votes(asked).argmax(-1), truth),
            "probe": self._miou(probe.predict(asked).argmax(-1), truth),
        }

    def _patch_counts(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Labelled pixels per class and patch of bank and queries, `[B, C, h, w]`."""
        if self._counts is None:
            bank, queries = (
                torch.cat([label_counts(mask[None], grid, self.num_classes, self.ignore_index) for mask in masks])
                for masks in self.masks
            )
            self._counts = bank.to(self.bank.device), queries.to(self.bank.device)
        return self._counts

    def _miou(self, prediction: Tensor, truth: Tensor) -> float:
        counts = where_float64_is(truth).flatten(2).transpose(1, 2).flatten(0, 1).double()  # [B·N, C]
        predicted = F.one_hot(prediction.to(counts.device), self.num_classes).double()
        return scores_from_confusion(counts.T @ predicted).miou


def features_of(backbone: Backbone, images: Tensor) -> Features:
    """Features of `[V, B, 3, S, S]`, with leading axes `[V, B]`, with attention, in at least float32."""
    parts: list[Features] = [backbone(part, attention=True) for part in images.flatten(0, 1).split(CHUNK)]
    *tokens, grids = zip(*parts, strict=True)
    joined = [torch.cat(part) for part in tokens]
    cls, extra, patches, attention = (part.float() if part.dtype.itemsize < 4 else part for part in joined)
    return Features(cls, extra, patches, attention, grids[0]).split_views(len(images))


def _structure_of(features: Features) -> DenseStructure | None:
    """Dense structure of the first view's patches; None for too few images or patches, or if all patches are equal."""
    first = features.patches[0]
    if min(first.shape[:2]) < 2 or not bool((first - first.mean((0, 1))).norm(dim=-1).mean() > 1e-4):
        return None
    found = dense_structure(first)
    return found if np.isfinite(found.pseudo_values).all() else None  # clusters of single patches have no spread


def agreement(patches: Tensor, views: Views, grid: tuple[int, int]) -> float:
    """Mean cosine of patches `[2, B, N, D]` of two views at the same ground point, after subtracting the mean patch.

    Any two patches of a ViT are similar before the mean is subtracted; afterwards 0 means no more similar than any two
    of the sample.
    """
    centred = patches - patches.mean((0, 1, 2))
    ground = patch_centres(views.boxes[1], views.flips[1], grid)
    positions, inside = locate(ground, views.boxes[0], views.flips[0], grid)
    similarity = F.cosine_similarity(sample_bilinear(centred[0], positions, grid), centred[1], dim=-1)  # [B, N]
    return float(similarity[inside].mean())


def _first(features: Features, images: int) -> Features:
    """The features `[V, B, ...]` of the first images."""
    *tokens, attention, grid = features
    assert attention is not None
    cls, extra, patches = (part[:, :images] for part in tokens)
    return Features(cls, extra, patches, attention[:, :images], grid)
