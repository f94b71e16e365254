"""Dense nearest-neighbour segmentation from frozen features, as a LightningModule.

Shapes: B images · N = h·w patches of one image · D width · C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from src.backbones.backbone import Backbone
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.memory_bank import MemoryBank
from src.evaluation.patch_labels import patch_fractions
from src.evaluation.patch_sample import PatchSample
from src.evaluation.whitening import Whitening, WhiteningStatistics
from src.probes.fitted import FittedProbe
from src.segmentation.inference import Inference, Whole


class NearestNeighbours(FittedProbe):
    """Each patch gets the labels of the most similar training patches.

    Args:
        backbone: Gives the features; not trained.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        class_names: One per class; their ids if None.
        neighbours: k.
        temperature: Temperature of the votes; 0.07 is our choice, published evaluations use 0.02 to 0.1.
        max_patches: Bound on the bank, beyond which a seeded random subset is kept (see `MemoryBank`).
        seed: Seed of the subset.
        chunk: Similarities held at a time (see `DenseKNN`).
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper uses 0.02).
        inference: Inference of votes in validation, test and prediction.
        averaged: Average the features over flips and scales, see `FittedProbe`.
        whitened: Compare patches in the soft-whitened space of the training images' own features, where a gain is more
            than a change of metric (docs/method.md, section 11).
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        neighbours: int = 30,
        temperature: float = 0.07,
        max_patches: int = 2**18,
        seed: int = 0,
        chunk: int = 2**24,
        boundary: float | None = None,
        inference: Inference = Whole(),
        averaged: bool = False,
        whitened: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, ignore_index, class_names, boundary, inference, averaged)
        self.neighbours = neighbours
        self.temperature = temperature
        self.chunk = chunk
        self.whitened = whitened
        self.bank = MemoryBank(max_patches, seed)
        self._raw = PatchSample(max_patches, seed)
        self._statistics: WhiteningStatistics | None = None
        self._whitening: Whitening | None = None
        self._classifier: DenseKNN | None = None

    def class_scores(self, images: Tensor) -> Tensor:
        """Votes `[B, C, h, w]`."""
        assert self._classifier is not None
        maps = self.maps(images)
        tokens = maps.flatten(2).transpose(1, 2).flatten(0, 1)  # [B·N, D]
        votes = self._classifier.votes(tokens if self._whitening is None else self._whitening(tokens))
        return votes.unflatten(0, (len(maps), *maps.shape[-2:])).permute(0, 3, 1, 2)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Votes are shares already."""
        return scores

    def begin(self) -> None:
        """Empty the bank."""
        self.bank.reset()
        self._raw = PatchSample(self.bank.max_patches, self.bank.seed)
        self._statistics = WhiteningStatistics(self.backbone.width) if self.whitened else None
        self._whitening = self._classifier = None

    def collect(self, index: int, tokens: Tensor, counts: Tensor) -> None:
        """Add the patches of one image to the bank."""
        if self._statistics is None:
            self.bank.add(index, tokens, counts)
            return
        self._statistics.accumulate(tokens)
        fractions, labelled = (part.squeeze(0) for part in patch_fractions(counts[None]))
        self._raw.add(index, labelled, tokens, fractions)

    def conclude(self) -> None:
        """Build the classifier from all ranks' patches."""
        if self._statistics is None:
            features, fractions = (tensor.to(self.device) for tensor in self.bank.gathered())
        else:
            self._whitening = self._statistics.finish().to(self.device)
            tokens, fractions = (tensor.to(self.device) for tensor in self._raw.gathered()[:2])
            features = F.normalize(self._whitening(tokens), dim=-1)
        self.bank.reset()  # the classifier has the patches now
        self._raw = PatchSample(self.bank.max_patches, self.bank.seed)
        self._classifier = DenseKNN(features, fractions, self.neighbours, self.temperature, self.chunk)
