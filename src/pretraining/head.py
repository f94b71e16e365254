"""The interface of the heads that turn tokens into scores over prototypes (method, sections 4 and 12)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Scores tokens against K prototypes; one head is shared by class token, patches and regions.

    Attributes:
        prototypes: The last layer; its weight is `[K, ·]`.
    """

    prototypes: nn.Linear

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Cosine of each token with each prototype, `[..., D]` to `[..., K]`, float32 also inside autocast."""

    @abstractmethod
    def load_published(self, state: dict[str, Tensor]) -> None:
        """Take the values of a published projection head.

        Raises:
            UserError: If they do not fit this head.
        """
