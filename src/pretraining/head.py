"""The interface of the heads that turn tokens into scores over prototypes (docs/method.md, sections 4 and 12)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Module, ABC):
    """Scores tokens against K prototypes; one head serves class token, patches and regions.

    Shapes: D width of the tokens · C width of the codes · K prototypes.

    Attributes:
        prototypes: The last layer; its weight is `[K, C]`.
    """

    prototypes: nn.Linear

    @abstractmethod
    def code(self, tokens: Tensor) -> Tensor:
        """Unit vectors to compare with the prototypes, `[..., D]` to `[..., C]`, in float32 even inside autocast."""

    @abstractmethod
    def load_published(self, state: dict[str, Tensor]) -> None:
        """Load a published projection head.

        Raises:
            UserError: If they do not fit this head.
        """

    @property
    def weight(self) -> Tensor:
        """The prototypes `[K, C]`: scores are `code · weightᵀ`."""
        weight: Tensor = self.prototypes.weight
        return weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Cosine of each token with each prototype, `[..., D]` to `[..., K]`, in float32 even inside autocast."""
        code = self.code(tokens)
        with torch.autocast(code.device.type, enabled=False):
            return F.linear(code, self.weight.to(code.dtype))
