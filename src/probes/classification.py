"""Classification of whole images from a frozen backbone's class tokens: nearest neighbours, or a linear layer.

Shapes: B images · M training images · D width · C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from datamodules.batches import ClassificationBatch
from src.backbones.backbone import Backbone
from src.core.distributed import merge_by_index
from src.core.errors import Diverged, UserError
from src.evaluation.confusion import check_names, scores_from_confusion
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.linear_probe import RidgeProbe
from src.probes.fitting import FittedModule
from src.segmentation.evaluation_files import log_evaluation, written_scores


class TokenClassifier(ABC):
    """Classifier on class tokens of the training images."""

    @abstractmethod
    def fit(self, tokens: Tensor, one_hot: Tensor) -> None:
        """Fit to L2-normalised tokens `[M, D]` and one-hot classes `[M, C]`."""

    @abstractmethod
    def scores(self, tokens: Tensor) -> Tensor:
        """Scores `[B, C]` of L2-normalised tokens `[B, D]`; the largest is the class."""


class NearestImages(TokenClassifier):
    """Weighted classes of the most similar training images (DINO's k-NN evaluation).

    Args:
        neighbours: k; 20 as in DINO.
        temperature: Temperature of the votes; 0.07 as in DINO.
    """

    def __init__(self, neighbours: int = 20, temperature: float = 0.07) -> None:
        self.neighbours = neighbours
        self.temperature = temperature

    def fit(self, tokens: Tensor, one_hot: Tensor) -> None:
        self._classifier = DenseKNN(tokens, one_hot, self.neighbours, self.temperature)

    def scores(self, tokens: Tensor) -> Tensor:
        return self._classifier.votes(tokens)


class LinearClassifier(TokenClassifier):
    """A linear layer in closed form: ridge regression to the one-hot classes, without a learning rate or schedule.

    Args:
        penalty: λ; 1 is our choice.
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def fit(self, tokens: Tensor, one_hot: Tensor) -> None:
        self._probe = RidgeProbe(tokens.shape[1], one_hot.shape[1], self.penalty)
        self._probe.update(tokens, one_hot)
        self._probe.solve()

    def scores(self, tokens: Tensor) -> Tensor:
        return self._probe.predict(tokens).float()


class Classification(FittedModule):
    """Classifies images of a data module such as `datamodules.folder.class_folders.ClassFolders`.

    Scores are those of one confusion matrix over all images of all ranks, logged and written to `evaluation.json` as
    for a segmentation, with images in place of pixels: `accuracy` is the share of correct images, `mean_accuracy` the
    mean recall of the classes, `dice` their F1.

    Args:
        backbone: Gives the class tokens; not trained.
        num_classes: C.
        classifier: Fitted to them.
        ignore_index: Ignore index of the labels.
        class_names: One per class; their ids if None.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        classifier: TokenClassifier,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__(backbone)
        self.num_classes = num_classes
        self.classifier = classifier
        self.ignore_index = ignore_index
        self.class_names = check_names(num_classes, class_names)
        self.confusion = MulticlassConfusionMatrix(num_classes, ignore_index=ignore_index)
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def begin(self) -> None:
        """Remove the training images."""
        self._seen = {}

    def see(self, batch: ClassificationBatch) -> None:
        """Collect class tokens and labels."""
        tokens, labels = self._tokens(batch.images).cpu(), batch.labels.cpu()
        self._seen |= dict(zip(batch.indices.tolist(), zip(tokens, labels, strict=True), strict=True))

    def conclude(self) -> None:
        """Fit the classifier.

        Raises:
            UserError: If no training image has a label.
        """
        known = [pair for pair in merge_by_index(self._seen).values() if pair[1] != self.ignore_index]
        if not known:
            raise UserError("classification: expected training images with labels, found none")
        tokens, labels = (torch.stack(part).to(self.device) for part in zip(*known, strict=True))
        self.classifier.fit(tokens, F.one_hot(labels, self.num_classes).to(tokens.dtype))
        self._seen = {}

    def on_validation_epoch_start(self) -> None:
        """Fit, and reset the counts."""
        super().on_validation_epoch_start()
        self.confusion.reset()

    def on_test_epoch_start(self) -> None:
        """Fit, and reset the counts."""
        super().on_test_epoch_start()
        self.confusion.reset()

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Count the batch."""
        self.confusion.update(self.predict_step(batch, batch_idx), batch.labels)

    def test_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Count the batch."""
        self.confusion.update(self.predict_step(batch, batch_idx), batch.labels)

    def predict_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Class of each image, `[B]`."""
        return self.classifier.scores(self._tokens(batch.images)).argmax(dim=1)

    def on_validation_epoch_end(self) -> None:
        """Log and write the scores."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log and write the scores."""
        self._report("test")

    def _tokens(self, images: Tensor) -> Tensor:
        """L2-normalised class tokens `[B, D]`.

        Raises:
            Diverged: If they are NaN or infinite, which any classifier would give some class.
        """
        with self.trainer.precision_plugin.forward_context():
            tokens = F.normalize(self.backbone(images).cls.float(), dim=-1)
        if not bool(tokens.isfinite().all()):
            raise Diverged(
                "classification: expected finite class tokens, found NaN or infinite values, so no scores are written; "
                "use another adapter, or set trainer.precision to 32-true"
            )
        return tokens

    def _report(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        counts = self.confusion.compute()
        scores = written_scores(scores_from_confusion(counts), self.class_names)
        log_evaluation(self, stage, {**scores, "images": int(counts.sum())})
