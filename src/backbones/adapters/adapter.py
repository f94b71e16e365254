"""The interface that every adapter kind answers (method, section 1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.core.errors import UserError

if TYPE_CHECKING:
    from src.backbones.backbone import Backbone


@dataclass(frozen=True)
class Report:
    """What an adapter kind put where.

    Attributes:
        kind: The kind with its sizes, as written in Python.
        places: Names of the modules or parameters that were touched.
        trainable: Parameters that train.
        total: Parameters of the backbone, adapters included.
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
    """One way to make a frozen backbone learn a little."""

    def install(self, backbone: Backbone) -> Report:
        """Add or mark the parameters that train; all others stay frozen.

        New parameters have the device and the dtype of the weights they stand beside. Their random values are drawn in
        float32 on the CPU, so that a seed gives the same adapter everywhere.

        Raises:
            UserError: If the kind finds nothing to adapt in this trunk, or does not know its blocks.
        """
        places = self._install(backbone.trunk)
        if not places:
            raise UserError(f"{self} matches nothing in {backbone.name}; its adapter would train no parameter")
        trainable = sum(parameter.numel() for _, parameter in backbone.trainable())
        return Report(str(self), tuple(places), trainable, sum(p.numel() for p in backbone.parameters()))

    @abstractmethod
    def _install(self, trunk: Any) -> list[str]:
        """Change the trunk in place and name the places."""

    @abstractmethod
    def uninstall(self, backbone: Backbone) -> None:
        """Undo `install`: the frozen trunk, bit for bit.

        Raises:
            UserError: If this kind is not in the trunk.
        """

    @abstractmethod
    @contextmanager
    def disabled(self, backbone: Backbone) -> Iterator[None]:
        """Within this context, which may be nested, the trunk computes as if nothing had been installed.

        Raises:
            UserError: If this kind is not in the trunk.
        """

    def merge(self, backbone: Backbone) -> None:
        """Fold the adapter into the weights: the same features from a plain timm model.

        Raises:
            UserError: If this kind cannot be folded.
        """
        raise UserError(f"{self} cannot be merged into the weights of {backbone.name}: {self._no_merge}")

    def _absent(self, backbone: Backbone, expected: str) -> ValueError:
        """The error for a trunk that does not hold what `install` puts there."""
        return ValueError(f"{self}: expected {expected} in {backbone.name}, found none; call backbone.install() first")

    _no_merge = "it is not linear in the tokens (a ReLU stands between its two projections); use LoRA or SLR to merge"
