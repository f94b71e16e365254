"""Scores of a converged probe, in a form that can be resampled over images.

Shapes: N images · M patches · C classes · D width · h×w patches of one image · H×W pixels of its mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.core.archives import read_arrays, write_arrays
from src.core.atomic_files import make_folder
from src.core.distributed import merge_by_index
from src.core.resizing import resize_scores
from src.evaluation.average_precision import AveragePrecision
from src.evaluation.confusion import ConfusionPerImage
from src.evaluation.logistic_probe import LogisticProbe
from src.evaluation.matched_frequencies import MatchedBiases
from src.evaluation.paired_interval import ImageStatistic, MeanIoU, MeanOverPatches
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.evaluation.patch_sample import PatchSample


class ProbeScores(NamedTuple):
    """A probe's results on an evaluation set, images in the order of their index.

    Attributes:
        names: One per image.
        matrices: Confusion in pixels, int64 `[N, C, C]`.
        matched: The same with biases matched to the training labels' class frequencies.
        logs: Log-probabilities of the labelled patches, `[M, C]`.
        shares: Their soft labels, `[M, C]`.
        owners: Position of each patch's image, int64 `[M]`.
    """

    names: list[str]
    matrices: Tensor
    matched: Tensor
    logs: Tensor
    shares: Tensor
    owners: Tensor

    def statistics(self) -> dict[str, ImageStatistic]:
        """For `paired_interval`: `miou`, `average_precision` and `matched_miou` in points, `cross_entropy` in nats."""
        images = len(self.names)
        loss = -(self.shares.double() * self.logs.double()).sum(dim=1)
        sums, counts = (torch.bincount(self.owners, weight, images) for weight in (loss, torch.ones_like(loss)))
        return {
            "miou": MeanIoU(self.matrices.numpy()),
            "average_precision": AveragePrecision(self.logs, self.shares, self.owners, images),
            "cross_entropy": MeanOverPatches(sums.numpy(), counts.numpy()),
            "matched_miou": MeanIoU(self.matched.numpy()),
        }

    def save(self, path: Path) -> None:
        """Write a compressed .npz."""
        make_folder(path.parent)
        arrays = {key: value.numpy() for key, value in self._asdict().items() if isinstance(value, Tensor)}
        write_arrays(path, names=np.array(self.names, dtype=np.str_), **arrays)

    @classmethod
    def load(cls, path: Path) -> ProbeScores:
        """Read the file of `save`.

        Raises:
            FileNotFoundError: If the file does not exist.
            UserError: If it cannot be read completely.
        """
        stored = read_arrays(path)
        arrays = {key: torch.from_numpy(stored[key]) for key in cls._fields if key != "names"}
        return cls(names=stored["names"].tolist(), **arrays)


class ProbeEvaluation:
    """Scores a probe image by image: pixels at the mask's native size, as for every other head, and patches for the
    other scores.

    Args:
        probe: The probe to evaluate.
        matched: Biases from the probe's logits of its training patches (`match_frequencies`).
        num_classes: C.
        ignore_index: Ignore index of the masks.
        max_patches: Bound on M, beyond which a keyed random subset is kept.
        seed: Random seed of the subset.
    """

    def __init__(
        self,
        probe: LogisticProbe,
        matched: MatchedBiases,
        num_classes: int,
        ignore_index: int,
        max_patches: int = 2**18,
        seed: int = 0,
    ) -> None:
        self.probe = probe
        self.biases = matched.biases
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._confusion = ConfusionPerImage(num_classes, ignore_index)
        self._matched = ConfusionPerImage(num_classes, ignore_index)
        self._patches = PatchSample(max_patches, seed)
        self._names: dict[int, str] = {}

    def update(self, index: int, name: str, features: Tensor, mask: Tensor) -> None:
        """Score one image; a repeated one replaces itself.

        Args:
            index: Index in the data set.
            name: Name of the image.
            features: Patch features `[D, h, w]`, on the probe's device.
            mask: Class ids `[H, W]` at their native size, on the same device.

        Raises:
            UserError: If the mask holds an id that is neither a class nor the ignore id.
        """
        logits = self.probe.map(features[None])  # [1, C, h, w]
        scores = resize_scores(logits, (mask.shape[-2], mask.shape[-1]))[0]  # [C, H, W]
        self._confusion.update(index, name, scores.argmax(dim=0), mask)
        self._names[index] = name
        biased = scores + self.biases[:, None, None]  # as before upsampling, since bilinear weights sum to 1
        self._matched.update(index, name, biased.argmax(dim=0), mask)
        grid = (logits.shape[-2], logits.shape[-1])
        counts = label_counts(mask[None].long(), grid, self.num_classes, self.ignore_index)
        shares, labelled = (part.squeeze(0) for part in patch_fractions(counts))
        self._patches.add(index, labelled, logits[0].flatten(1).T.log_softmax(dim=1), shares)

    def gathered(self) -> ProbeScores:
        """Results of every image of every rank, each once; call it on all ranks.

        Raises:
            UserError: If no patch has a label.
        """
        images = self._confusion.gathered()
        matched = self._matched.gathered()
        logs, shares, indices = self._patches.gathered()
        owners = torch.searchsorted(torch.tensor(list(merge_by_index(self._names))), indices)
        return ProbeScores(images.names, images.matrices, matched.matrices, logs, shares, owners)
