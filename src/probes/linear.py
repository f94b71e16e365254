"""The converged linear probe as a LightningModule, with scores beyond argmax mIoU (docs/method.md, section 11).

Shapes: B images · D width · h×w patches of one image · C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.evaluation.confusion import ImageConfusions, Scores
from src.evaluation.logistic_probe import LogisticProbe, fit_logistic_probe
from src.evaluation.matched_frequencies import match_frequencies
from src.evaluation.patch_labels import patch_fractions
from src.evaluation.patch_sample import PatchSample
from src.evaluation.probe_scores import ProbeEvaluation
from src.evaluation.significance import POINTS
from src.probes.fitted import FittedProbe
from src.segmentation.evaluation_loop import LabelledImages
from src.segmentation.inference import Whole


class ConvergedLinearProbe(FittedProbe):
    """Logistic regression on standardised patch features, fitted until its gradient vanishes.

    In addition to the scores of every evaluation, `evaluation.json` has `average_precision` (mean over classes, patches
    weighted by their share of the class), `cross_entropy` (nats a patch) and `matched_miou` (class biases chosen on the
    training images so that classes are predicted as often as they occur); `probe.npz` has what intervals over images
    need.
    Each image is evaluated once, whole.

    Args:
        backbone: Gives the features; not trained.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        class_names: One per class; their ids if None.
        max_patches: Bound on the training patches, beyond which a keyed random subset is kept.
        seed: Random seed of the subset and of the images held back to choose the penalty.
        boundary: Also measure boundary IoU, within this share of the image's diagonal.
        averaged: Average the features over flips and scales, see `FittedProbe`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        max_patches: int = 2**18,
        seed: int = 0,
        boundary: float | None = None,
        averaged: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, ignore_index, class_names, boundary, Whole(), averaged)
        self.max_patches = max_patches
        self.seed = seed
        self._patches = PatchSample(max_patches, seed)
        self._probe: LogisticProbe | None = None
        self._evaluated: ProbeEvaluation | None = None
        self._seen: Tensor | None = None

    def class_scores(self, images: Tensor) -> Tensor:
        """Logits `[B, C, h, w]`."""
        assert self._probe is not None
        self._seen = self.maps(images)
        return self._probe.map(self._seen)

    def begin(self) -> None:
        """Remove earlier patches."""
        self._patches = PatchSample(self.max_patches, self.seed)
        self._probe = self._evaluated = None

    def collect(self, index: int, tokens: Tensor, counts: Tensor) -> None:
        """Keep the labelled patches of one image."""
        fractions, labelled = (part.squeeze(0) for part in patch_fractions(counts[None]))
        self._patches.add(index, labelled, tokens, fractions)

    def conclude(self) -> None:
        """Fit; every rank fits to the same patches."""
        features, fractions, owners = (tensor.to(self.device) for tensor in self._patches.gathered())
        self._patches = PatchSample(self.max_patches, self.seed)
        self._probe = fit_logistic_probe(features, fractions, owners, seed=self.seed)
        matched = match_frequencies(self._probe.logits(features), fractions)
        self._evaluated = ProbeEvaluation(
            self._probe, matched, self.num_classes, self.ignore_index, self.max_patches, self.seed
        )

    def _count(self, batch: LabelledImages) -> None:
        images: Any = getattr(batch, "images", None)
        if not isinstance(images, Tensor):
            raise UserError("the converged linear probe sees images resized; set data.init_args.evaluation to resized")
        super()._count(batch)
        assert self._evaluated is not None and self._seen is not None
        for index, name, features, mask in zip(
            batch.indices.tolist(), batch.names, self._seen, batch.masks, strict=True
        ):
            self._evaluated.update(index, name, features, mask.to(self.device).long())

    def _evaluation(self, scores: Scores, images: ImageConfusions) -> dict[str, Any]:
        assert self._evaluated is not None
        found = self._evaluated.gathered()
        values = {name: statistic.value() for name, statistic in found.statistics().items()}
        if self.trainer.is_global_zero:
            found.save(Path(self.trainer.default_root_dir) / "probe.npz")
        return super()._evaluation(scores, images) | {
            "average_precision": values["average_precision"] / POINTS,
            "matched_miou": values["matched_miou"] / POINTS,
            "cross_entropy": values["cross_entropy"],
        }
