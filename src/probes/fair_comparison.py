"""Frozen and adapted features under the same fair probes (docs/method.md, section 11).

The converged linear probe and dense nearest neighbours, plain and whitened, are fitted on a few labelled images and
scored on others. Rows are feature functions: the frozen backbone, the frozen backbone averaged over flips and scales,
the adapted backbone.

Shapes: D width · h×w patches · H×W pixels · C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.resizing import resize_scores
from src.evaluation.confusion import ConfusionPerImage, ImageConfusions
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.fair_verdict import FairVerdict, compare_scores
from src.evaluation.logistic_probe import fit_logistic_probe
from src.evaluation.matched_frequencies import match_frequencies
from src.evaluation.memory_bank import MemoryBank
from src.evaluation.paired_interval import ImageStatistic, MeanIoU
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.evaluation.patch_sample import PatchSample
from src.evaluation.probe_scores import ProbeEvaluation, ProbeScores
from src.evaluation.significance import Interval
from src.evaluation.whitening import Whitening, WhiteningStatistics

Maps = Callable[[Tensor], Tensor]


class LabelledImage(NamedTuple):
    """One image with its mask.

    Attributes:
        number: Index in its data set.
        name: Name for messages.
        image: RGB `[3, H, W]`, uint8 or float in [0, 1], sides multiples of the patch size.
        mask: Class ids `[h, w]` at the mask's own size.
    """

    number: int
    name: str
    image: Tensor
    mask: Tensor


class Row(NamedTuple):
    """One row of the comparison.

    Attributes:
        probe: The converged linear probe on the evaluation images.
        neighbours: Dense nearest neighbours there.
        whitened_neighbours: The same in the soft-whitened space of the row's own training patches.
    """

    probe: ProbeScores
    neighbours: ImageConfusions
    whitened_neighbours: ImageConfusions

    def statistics(self) -> dict[str, ImageStatistic]:
        """All scores, by name, for `paired_interval`."""
        return {
            **self.probe.statistics(),
            "knn": MeanIoU(self.neighbours.matrices.numpy()),
            "whitened_knn": MeanIoU(self.whitened_neighbours.matrices.numpy()),
        }

    def values(self) -> dict[str, float]:
        """Each score of all images."""
        return {name: statistic.value() for name, statistic in self.statistics().items()}


class FairProbes:
    """Probes of one labelled data set, the same for every row.

    Args:
        training: Labelled images to fit probes to.
        evaluation: Labelled images to score them on.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        neighbours: k.
        max_patches: Bound on the training patches, beyond which a keyed random subset is kept.
        seed: Random seed of the subset and of the held-back images.

    Raises:
        UserError: If there are fewer than two training images, or no evaluation image.
    """

    def __init__(
        self,
        training: Iterable[LabelledImage],
        evaluation: Iterable[LabelledImage],
        num_classes: int,
        ignore_index: int = 255,
        neighbours: int = 30,
        max_patches: int = 2**18,
        seed: int = 0,
    ) -> None:
        self.training = list(training)
        self.evaluation = list(evaluation)
        if len(self.training) < 2 or not self.evaluation:
            raise UserError(
                "a comparison needs at least 2 labelled images to learn a probe from and 1 to score it on, found "
                f"{len(self.training)} and {len(self.evaluation)}; label more images"
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.neighbours = neighbours
        self.max_patches = max_patches
        self.seed = seed

    @torch.no_grad()
    def measure(self, maps: Maps, device: torch.device | str = "cpu") -> Row:
        """Fit and score the probes on one kind of features.

        Args:
            maps: Images `[1, 3, H, W]` on the device → features `[1, D, h, w]`.
            device: Where features and probes are computed.
        """
        patches = PatchSample(self.max_patches, self.seed)
        bank = MemoryBank(self.max_patches, self.seed)
        features: Tensor | None = None
        statistics: WhiteningStatistics | None = None
        for one in self.training:
            features = maps(one.image[None].to(device)).float()  # [1, D, h, w]
            shares, labelled = self._labels(one.mask, features)
            tokens = features[0].flatten(1).T  # [h·w, D]
            patches.add(one.number, labelled, tokens, shares)
            statistics = statistics or WhiteningStatistics(len(features[0]))
            statistics.accumulate(tokens)
            bank.add(one.number, tokens, self._counts(one.mask, features)[0].cpu())
        assert statistics is not None
        whitening = statistics.finish()
        inputs, targets, owners = (tensor.to(device) for tensor in patches.gathered())
        probe = fit_logistic_probe(inputs, targets, owners, seed=self.seed)
        matched = match_frequencies(probe.logits(inputs), targets)
        evaluation = ProbeEvaluation(probe, matched, self.num_classes, self.ignore_index, self.max_patches, self.seed)
        stored, fractions = (tensor.to(device) for tensor in bank.gathered())
        plain = DenseKNN(stored, fractions, self.neighbours)
        white = self._whitened_bank(inputs, targets, whitening)
        confusions = [ConfusionPerImage(self.num_classes, self.ignore_index) for _ in range(2)]
        for one in self.evaluation:
            features = maps(one.image[None].to(device)).float()
            mask = one.mask.to(device).long()
            evaluation.update(one.number, one.name, features[0], mask)
            tokens = features[0].flatten(1).T
            for confusion, votes in zip(confusions, (plain.votes(tokens), white.votes(whitening(tokens))), strict=True):
                scores = votes.T.unflatten(1, features.shape[-2:])[None]  # [1, C, h, w]
                predicted = resize_scores(scores, (mask.shape[-2], mask.shape[-1]))[0].argmax(dim=0)
                confusion.update(one.number, one.name, predicted, mask)
        return Row(evaluation.gathered(), confusions[0].gathered(), confusions[1].gathered())

    def _whitened_bank(self, inputs: Tensor, targets: Tensor, whitening: Whitening) -> DenseKNN:
        whitened = torch.nn.functional.normalize(whitening(inputs), dim=-1)
        return DenseKNN(whitened, targets, self.neighbours)

    def _counts(self, mask: Tensor, features: Tensor) -> Tensor:
        grid = (features.shape[-2], features.shape[-1])
        return label_counts(mask[None].long(), grid, self.num_classes, self.ignore_index)

    def _labels(self, mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        shares, labelled = patch_fractions(self._counts(mask, features))
        return shares[0], labelled[0]


def compare(frozen: Row, adapted: list[Row], averaged: Row | None = None) -> tuple[dict[str, Interval], FairVerdict]:
    """The adapted rows, one per seed, against the frozen one: an interval per score, and the verdict.

    Args:
        frozen: The frozen row, without randomness.
        adapted: One per seed.
        averaged: The frozen backbone averaged over flips and scales, if it was measured.
    """
    cheap = None if averaged is None else averaged.statistics()["miou"]
    return compare_scores(frozen.statistics(), [row.statistics() for row in adapted], cheap)
