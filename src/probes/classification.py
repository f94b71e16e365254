"""Classification of whole images from a frozen backbone's class tokens: nearest neighbours, or a linear layer.

Shapes: B images · M training images · D width · C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from src.backbones.backbone import Backbone
from src.core.distributed import merge_by_index
from src.core.errors import UserError
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.linear_probe import RidgeProbe
from src.segmentation.evaluation_loop import LabelledImages, ScoredSegmentation
from src.segmentation.iterate_once import iterate_once


class TokenClassifier(ABC):
    """Learns classes from the class tokens of the training images."""

    @abstractmethod
    def fit(self, tokens: Tensor, one_hot: Tensor) -> None:
        """From tokens `[M, D]`, L2-normalised, and one-hot classes `[M, C]`."""

    @abstractmethod
    def scores(self, tokens: Tensor) -> Tensor:
        """`[B, C]` of tokens `[B, D]`, L2-normalised; the largest is the class."""


class NearestImages(TokenClassifier):
    """The classes of the most similar training images, weighted (DINO's k-NN evaluation).

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
    """A linear layer in closed form: ridge regression to the one-hot classes, without a rate or a schedule to choose.

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


class Classification(ScoredSegmentation):
    """Classifies images whose masks are one pixel (`datamodules.folder.class_folders`): `accuracy` is that of images.

    As with `src.probes.dense_knn.NearestNeighbours` nothing trains; before an evaluation the training images are seen
    once.

    Args:
        backbone: Gives the class tokens, as it is.
        num_classes: C.
        classifier: What learns from them.
        ignore_index: Id that is no class.
        class_names: One per class; their ids if None.
    """

    needs_checkpoint = False

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        classifier: TokenClassifier,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__(backbone.requires_grad_(False).eval(), num_classes, ignore_index, class_names)
        self.automatic_optimization = False
        self.classifier = classifier

    def train(self, mode: bool = True) -> Classification:
        """Nothing trains."""
        return super().train(False)

    def configure_optimizers(self) -> None:
        """Nothing trains."""

    def training_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Nothing trains; the evaluation sees the training images."""

    def on_validation_epoch_start(self) -> None:
        """See the training images, begin counting."""
        super().on_validation_epoch_start()
        self._fit()

    def on_test_epoch_start(self) -> None:
        """See the training images, begin counting."""
        super().on_test_epoch_start()
        self._fit()

    def on_predict_epoch_start(self) -> None:
        """See the training images."""
        self._fit()

    def class_scores(self, images: Tensor) -> Tensor:
        """`[B, C, 1, 1]`."""
        return self.classifier.scores(self._tokens(images))[..., None, None]

    def _tokens(self, images: Tensor) -> Tensor:
        return F.normalize(self.backbone(images).cls.float(), dim=-1)

    @torch.no_grad()
    def _fit(self) -> None:
        data: LightningDataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError("classification needs a data module, from whose training images it learns")
        data.setup("fit")  # an evaluation alone has not listed the training images
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in iterate_once(data.train_dataloader(), self, "class tokens", share=True):
            with self.trainer.precision_plugin.forward_context():
                tokens = self._tokens(batch.images)
            classes = batch.masks[:, 0, 0]  # one pixel, resized: the same everywhere
            for index, token, label in zip(batch.indices.tolist(), tokens.cpu(), classes.cpu(), strict=True):
                seen[index] = token, label
        known = [pair for pair in merge_by_index(seen).values() if pair[1] != self.ignore_index]
        tokens, classes = (torch.stack(part).to(self.device) for part in zip(*known, strict=True))
        self.classifier.fit(tokens, F.one_hot(classes, self.num_classes).to(tokens.dtype))
