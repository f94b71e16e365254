"""The interface of all adapter kinds (docs/method.md, section 1)."""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from src.core.errors import UserError
from src.core.numbers import check_number

LARGEST_RANK = 1 << 14


@dataclass(frozen=True)
class Report:
    """Changes of an adapter kind to a trunk.

    Attributes:
        kind: The kind with its settings, as written in Python.
        places: Names of the modules or parameters that were changed.
        trainable: Number of trainable parameters.
        total: Number of parameters of the backbone, adapters included.
    """

    kind: str
    places: tuple[str, ...]
    trainable: int
    total: int

    def __str__(self) -> str:
        share = 100 * self.trainable / self.total
        counts = f"{self.trainable:,} of {self.total:,} parameters train ({share:.2f} %)"
        return f"{self.kind}: {counts}, in {len(self.places)} places"


class Adapter(ABC):
    """Interface of the parameter-efficient ways to adapt a frozen trunk, a timm ViT.

    A kind is a frozen dataclass: its fields are its settings, which adapter files store as JSON. It holds no tensors;
    everything that it adds is part of the trunk. `Backbone` calls these methods and keeps track of its adapter.

    Attributes:
        first_block: Index of the first block that is adapted. The blocks below are unchanged: training builds no graph
            for them, and backward ends above them.
        unsaid: Settings that files and messages leave out at their default, so that files from before such a setting
            existed equal later ones.
    """

    first_block: int = 0
    unsaid = frozenset({"first_block"})

    def __post_init__(self) -> None:
        """Check the settings against their annotations.

        Raises:
            UserError: If a setting has another type, is not among the choices, is not finite, or is not a usable rank.
        """
        try:
            hints = typing.get_type_hints(type(self))
        except NameError:  # annotations that only a type checker can resolve
            hints = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            expected = _mismatch(value, hints.get(field.name))
            if expected is None and field.name == "rank" and not 1 <= value <= LARGEST_RANK:
                expected = f"a whole number from 1 to {LARGEST_RANK}"
            if expected is not None:
                raise UserError(f"{type(self).__name__}: expected {field.name} to be {expected}, found {value!r}")
        check_number(f"{type(self).__name__}.first_block", self.first_block)

    def __str__(self) -> str:
        if not dataclasses.is_dataclass(self):
            return repr(self)
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"

    def settings(self) -> dict[str, Any]:
        """Fields and their values, except `unsaid` defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {key: value for key, (value, default) in values.items() if key not in self.unsaid or value != default}

    def adapted_blocks(self, trunk: Any) -> dict[int, Any]:
        """The trunk's blocks from `first_block` on, by their index.

        Raises:
            UserError: If there are none.
        """
        blocks = dict(enumerate(trunk.blocks))
        if self.first_block >= len(blocks):
            raise UserError(
                f"{self}: expected first_block from 0 to {len(blocks) - 1}, for a backbone of {len(blocks)} blocks"
            )
        return {depth: block for depth, block in blocks.items() if depth >= self.first_block}

    @abstractmethod
    def inject(self, trunk: Any) -> list[str]:
        """Add or mark the parameters to train, and return the names of the changed places; all others stay frozen.

        New parameters have the device and the dtype of the weights next to them. Their random values are drawn in
        float32 on the CPU, so that a seed gives the same adapter everywhere.

        Raises:
            UserError: If the kind does not support the trunk's blocks.
        """

    @abstractmethod
    def remove(self, trunk: Any) -> None:
        """Undo `inject`: the frozen trunk, bit for bit.

        Raises:
            ValueError: If this kind is not installed in the trunk.
        """

    @abstractmethod
    def disabled(self, trunk: Any) -> AbstractContextManager[None]:
        """Context, which may be nested, in which the trunk computes as if nothing had been injected.

        Raises:
            ValueError: If this kind is not installed in the trunk.
        """

    def attenuate(self, trunk: Any, factor: float) -> None:
        """Scale the learnt change, once: 0 gives the frozen trunk and 1 the adapted one, bit for bit.

        Raises:
            UserError: If this kind cannot be attenuated.
            ValueError: If it is not installed in the trunk.
        """
        raise UserError(f"{self} has no attenuate(trunk, factor); load it with adapter_scale=1")

    def weakened(self, trunk: Any, tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
        """Tensors of the adapter with the learnt change scaled, as by `attenuate`.

        Args:
            trunk: With the adapter installed.
            tensors: The adapter's, by name in the trunk.
            factor: 0 (frozen) to 1 (adapted).

        Raises:
            UserError: If this kind cannot be scaled in its tensors.
        """
        raise UserError(f"{self} cannot be saved at reduced strength; set strength to 1")

    def merge(self, trunk: Any) -> None:
        """Merge the adapter into the weights: the same features from a plain timm model.

        Raises:
            UserError: If this kind cannot be merged.
            ValueError: If it is not installed in the trunk.
        """
        raise UserError(f"{self} cannot be merged into the weights: {self._no_merge}")

    def _absent(self, expected: str) -> ValueError:
        """Error for a trunk without the modules that `inject` adds."""
        return ValueError(f"{self}: expected {expected} in the trunk, found none; call backbone.install() first")

    _no_merge = "it is not linear in the tokens (there is a ReLU between its two projections); use LoRA or SLR to merge"


@contextmanager
def switched_off(modules: Sequence[Any]) -> Iterator[None]:
    """Context in which `enabled` is False for all of these modules; restored afterwards."""
    before = [module.enabled for module in modules]
    for module in modules:
        module.enabled = False
    try:
        yield
    finally:
        for module, enabled in zip(modules, before, strict=True):
            module.enabled = enabled


def _mismatch(value: object, hint: Any) -> str | None:
    """The expected type of a setting in words, if the value has another; unknown annotations accept anything."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        return None if value in choices else f"one of {', '.join(map(str, choices))}"
    if origin is tuple and typing.get_args(hint)[1:] == (...,):
        if not isinstance(value, tuple):
            return "a tuple"
        return next(filter(None, (_mismatch(item, typing.get_args(hint)[0]) for item in value)), None)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return None if isinstance(value, int) and number else "a whole number"
    if hint is float:
        return None if number and -1e30 < value < 1e30 else "a finite number"  # type: ignore[operator]
    return None
