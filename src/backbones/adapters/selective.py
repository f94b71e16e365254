"""BitFit, last blocks and full fine-tuning: train some of the trunk's own parameters, keeping their frozen values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.backbones.adapters.adapter import Adapter
from src.core.numbers import check_number


class FrozenValues(nn.Module):
    """Original values of a trunk's marked parameters, held as buffers.

    Buffers follow the trunk to another device or dtype and survive a deep copy. They are not persistent: they are not
    in state dicts, checkpoints and weight hashes, and a resumed run takes them from the backbone's weights. Networks
    that share their frozen tensors share this module.

    Args:
        values: Tensors by parameter name in the trunk; not copied.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name.replace(".", "/"), value, persistent=False)  # torch allows no dot in a name

    def items(self) -> list[tuple[str, Tensor]]:
        """Names of the parameters in the trunk, with their frozen values."""
        return [(name.replace("/", "."), value) for name, value in self.named_buffers(remove_duplicate=False)]


class _Marking(Adapter):
    """Base of the kinds that train some of the trunk's own parameters.

    A marked parameter is replaced by a trainable copy, so that another trunk that shares the frozen tensors is
    unaffected; its original value is kept in `trunk.frozen_values`.
    """

    @abstractmethod
    def _chosen(self, trunk: Any) -> list[str]:
        """Names of the parameters to train."""

    def inject(self, trunk: Any) -> list[str]:
        chosen = self._chosen(trunk)
        frozen = {name: trunk.get_parameter(name).detach() for name in chosen}
        for name, value in frozen.items():
            _set_parameter(trunk, name, nn.Parameter(value.clone()))
        if frozen:
            trunk.frozen_values = FrozenValues(frozen)
        return chosen

    def remove(self, trunk: Any) -> None:
        for name, value in self._frozen(trunk).items():
            _set_parameter(trunk, name, nn.Parameter(value, requires_grad=False))
        del trunk.frozen_values

    def merge(self, trunk: Any) -> None:
        for name, _ in self._frozen(trunk).items():
            _set_parameter(trunk, name, nn.Parameter(trunk.get_parameter(name).detach(), requires_grad=False))
        del trunk.frozen_values

    @contextmanager
    def disabled(self, trunk: Any) -> Iterator[None]:
        frozen = self._frozen(trunk).items()
        marked = [trunk.get_parameter(name) for name, _ in frozen]
        trained = [parameter.detach().clone() for parameter in marked]
        for parameter, (_, value) in zip(marked, frozen, strict=True):
            parameter.data.copy_(value)
        try:
            yield
        finally:
            for parameter, values in zip(marked, trained, strict=True):
                parameter.data.copy_(values)

    def attenuate(self, trunk: Any, factor: float) -> None:
        for name, value in self._frozen(trunk).items():
            parameter = trunk.get_parameter(name)
            parameter.data.copy_(torch.lerp(value, parameter.data, factor))

    def weakened(self, trunk: Any, tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
        frozen = dict(self._frozen(trunk).items())
        return {name: torch.lerp(frozen[name], tensor, factor) for name, tensor in tensors.items()}

    def _frozen(self, trunk: Any) -> FrozenValues:
        frozen = getattr(trunk, "frozen_values", None)
        if not isinstance(frozen, FrozenValues):
            raise self._absent("the frozen values of its marked parameters")
        return frozen


def _set_parameter(trunk: Any, name: str, parameter: nn.Parameter) -> None:
    owner, _, key = name.rpartition(".")
    setattr(trunk.get_submodule(owner), key, parameter)


@dataclass(frozen=True)
class BitFit(_Marking):
    """Train only the biases of the blocks (BitFit, arXiv 2106.10199).

    Args:
        first_block: Index of the first block whose biases train.
    """

    first_block: int = 0

    def _chosen(self, trunk: Any) -> list[str]:
        blocks = self.adapted_blocks(trunk).items()
        named = [name for depth, block in blocks for name, _ in block.named_parameters(prefix=f"blocks.{depth}")]
        return [name for name in named if name.endswith("bias")]


@dataclass(frozen=True)
class LastBlocks(_Marking):
    """Train the last blocks completely.

    Args:
        count: Their number; 2 is our choice. It determines the first adapted block.
    """

    count: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("LastBlocks.count", self.count, least=1)

    def _chosen(self, trunk: Any) -> list[str]:
        first = max(0, len(trunk.blocks) - self.count)
        blocks = [f"blocks.{depth}." for depth in range(first, len(trunk.blocks))]
        return [name for name, _ in trunk.named_parameters() if name.startswith(tuple(blocks))]


@dataclass(frozen=True)
class Full(_Marking):
    """Train everything: full fine-tuning, the baseline for adapters."""

    def _chosen(self, trunk: Any) -> list[str]:
        return [name for name, _ in trunk.named_parameters()]
