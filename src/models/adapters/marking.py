"""BitFit, last blocks, full fine-tuning: some of the trunk's own parameters train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from src.models.adapters.kind import AdapterKind

if TYPE_CHECKING:
    from src.models.backbone import Backbone


class _Marking(AdapterKind):
    """Kinds that let some of the trunk's own parameters train, and remember their values for the way back."""

    _no_merge = "its values are the weights already"

    @abstractmethod
    def _chosen(self, trunk: Any) -> list[str]:
        """Names of the parameters to train."""

    def _install(self, trunk: Any) -> list[str]:
        chosen = self._chosen(trunk)
        parameters = dict(trunk.named_parameters())
        for name in chosen:
            parameter = parameters[name].requires_grad_(True)
            parameter.source_value = parameter.detach().clone()
        return chosen

    def uninstall(self, backbone: Backbone) -> None:
        for parameter in self._marked(backbone):
            parameter.data.copy_(parameter.source_value)  # type: ignore[attr-defined]
            parameter.requires_grad_(False)
            del parameter.source_value  # type: ignore[attr-defined]

    @contextmanager
    def disabled(self, backbone: Backbone) -> Iterator[None]:
        marked = self._marked(backbone)
        trained = [parameter.detach().clone() for parameter in marked]
        for parameter in marked:
            parameter.data.copy_(parameter.source_value)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for parameter, values in zip(marked, trained, strict=True):
                parameter.data.copy_(values)

    @staticmethod
    def _marked(backbone: Backbone) -> list[nn.Parameter]:
        return [parameter for parameter in backbone.trunk.parameters() if hasattr(parameter, "source_value")]


@dataclass(frozen=True)
class BitFit(_Marking):
    """Only the biases of the blocks train (BitFit, arXiv 2106.10199)."""

    def _chosen(self, trunk: Any) -> list[str]:
        return [name for name, _ in trunk.blocks.named_parameters(prefix="blocks") if name.endswith("bias")]


@dataclass(frozen=True)
class LastBlocks(_Marking):
    """The last blocks train whole.

    Args:
        count: How many; 2 is our choice.
    """

    count: int = 2

    def _chosen(self, trunk: Any) -> list[str]:
        first = max(0, len(trunk.blocks) - self.count)
        blocks = [f"blocks.{depth}." for depth in range(first, len(trunk.blocks))]
        return [name for name, _ in trunk.named_parameters() if name.startswith(tuple(blocks))]


@dataclass(frozen=True)
class Full(_Marking):
    """Everything trains: full fine-tuning, the baseline that adapters are measured against."""

    def _chosen(self, trunk: Any) -> list[str]:
        return [name for name, _ in trunk.named_parameters()]
