"""Every training image as a class of its own (DIET, arXiv 2302.10260), for the baseline DIET-CP (arXiv 2509.06990).

Shapes: V global views · L local views · B images · D width · N training images.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.views import Batch
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.core.numbers import check_number
from src.pretraining.consistency import LossOutput, Objective
from src.pretraining.network import NetworkOutput


@runtime_checkable
class GivesImages(Protocol):
    """A data module that lists its training images (`datamodules.base.DomainDataModule`)."""

    def source(self, split: str) -> Any:
        """Images of a split, with a length; `Crops.indices` counts them from 0."""


class InstanceDiscrimination(Objective):
    """Classifies each of the student's views as the training image that it was cut from.

    `mean over views and images of H(t_i, softmax(W · z / ‖z‖))`, where z is the class token of a view of image i, W
    `[N, D]` a linear layer without bias, and `t_i = (1 − ε) · onehot(i) + ε / N`. Neither teacher nor projection head
    takes part; the teacher still is the student's moving average, which is what a fit saves. W is a parameter of this
    objective: it trains with the heads, and is in checkpoints, not in adapters.

    Args:
        weight: λ of this term.
        label_smoothing: ε; 0.2 in the runs of DIET-CP's public code, whose command defaults to 0.3.
        images: N, to train on a loader of your own; None counts the data module's training images.

    Raises:
        UserError: If a number is out of range; when a fit starts, if the number of images is unknown or below 2; in a
            step, if an image's index is not below N.
    """

    needs_head = False
    needs_indices = True
    needs_teacher = False

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.2, images: int | None = None) -> None:
        super().__init__(weight)
        check_number("label_smoothing", label_smoothing, most=1)
        if images is not None:
            check_number("images", images, least=2)
        self.label_smoothing = label_smoothing
        self.images = images
        self.classifier: nn.Linear | None = None
        self._width = self._seed = 0
        self._indices_seen = False

    def build(self, prototypes: int, width: int) -> None:
        self._width = width
        self._seed = int(torch.randint(1 << 31, ()))  # drawn here, as a fit in several processes resets the generator

    def prepare(self, data: object) -> None:
        """Build the classifier for the training images; one of the same size is kept, as by a second fit."""
        count = _count(data) if self.images is None else self.images
        if self.classifier is None or self.classifier.out_features != count:
            self.classifier = nn.utils.skip_init(nn.Linear, self._width, count, bias=False)
            bound = self._width**-0.5  # torch's default for linear layers
            nn.init.uniform_(self.classifier.weight, -bound, bound, torch.Generator().manual_seed(self._seed))
        self._indices_seen = False

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        assert self.classifier is not None, "built when a fit starts"
        self._check(random.indices, self.classifier.out_features)
        tokens = student.features.cls  # [V, B, D]
        if student.local_cls is not None:
            tokens = torch.cat((tokens, student.local_cls))  # [V + L, B, D]
        with torch.autocast(tokens.device.type, enabled=False):
            scores = self.classifier(F.normalize(tokens.to(self.classifier.weight.dtype), dim=-1))  # [V + L, B, N]
        classes = random.indices.expand(len(scores), -1)
        loss = F.cross_entropy(scores.flatten(0, 1), classes.flatten(), label_smoothing=self.label_smoothing)
        return LossOutput(loss)

    def _check(self, indices: Tensor, count: int) -> None:
        """Refuse indices without a class; on an accelerator only a fit's first ones, since it synchronises."""
        if self._indices_seen and indices.device.type != "cpu":
            return
        self._indices_seen = True
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < count:
            raise UserError(
                f"{type(self).__name__}: expected indices of images from 0 to {count - 1}, one for each of {count} "
                f"training images, found {int(indices.min())} to {int(indices.max())}; set its init_args.images to "
                "the number of images, or number those of your loader from 0"
            )


def _count(data: object) -> int:
    """Number of a data module's training images."""
    source = data.source("train") if isinstance(data, GivesImages) else None
    if not isinstance(source, Sized):
        found = "a loader without a data module" if data is None else f"{type(data).__name__}, which does not tell it"
        raise UserError(
            "InstanceDiscrimination: every training image is a class, so that it needs their number, and found "
            f"{found}; use a data module with task=pretrain, or set its init_args.images"
        )
    if len(source) < 2:
        raise UserError(f"InstanceDiscrimination: expected at least 2 training images, found {len(source)}")
    return len(source)
