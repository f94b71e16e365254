"""Head with prototypes that are informative from the first step (docs/method.md, section 12; ours)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.core.errors import UserError
from src.evaluation.whitening import Whitening
from src.pretraining.head import Head


class CalibratedHead(Head):
    """Whitening, a residual MLP and fixed prototypes: centroids of the domain's own frozen tokens.

    The statistics are missing until `calibrate` sets them, which a fit does before its first step; checkpoints hold
    them. The MLP starts as the identity, so that the first scores are those of the whitened frozen tokens.

    Args:
        width: D of the tokens.
        prototypes: K.
        hidden: Width of the residual MLP; 0 for none, so that only the adapters learn.
        epsilon: ε of the soft whitening; null only subtracts the mean.
        centroids: `kmeans`, of whitened frozen tokens; or `random` directions, for the ablation.
    """

    def __init__(
        self,
        width: int,
        prototypes: int = 256,
        hidden: int = 1024,
        epsilon: float | None = 0.1,
        centroids: Literal["kmeans", "random"] = "kmeans",
    ) -> None:
        super().__init__()
        if prototypes < 2 or hidden < 0 or (epsilon is not None and epsilon <= 0):
            raise UserError(
                f"calibrated head: prototypes {prototypes}, hidden {hidden}, epsilon {epsilon}; expected at least 2, "
                "0 or more, and above 0 or null"
            )
        self.epsilon = epsilon
        self.centroids = centroids
        self.whitening = Whitening(width)
        self.mlp: nn.Sequential | None = None
        if hidden:
            last = nn.Linear(hidden, width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last)
        self.prototypes = nn.Linear(width, prototypes, bias=False).requires_grad_(False)
        nn.init.constant_(self.prototypes.weight, torch.nan)

    @property
    def calibrated(self) -> bool:
        """True if statistics and prototypes are set."""
        return bool(self.prototypes.weight.isfinite().all())

    @torch.no_grad()
    def calibrate(self, mean: Tensor, projection: Tensor, prototypes: Tensor) -> None:
        """Set statistics and prototypes.

        Args:
            mean: Mean of the domain's frozen tokens, `[D]`.
            projection: Projection of their soft whitening, `[D, D]`.
            prototypes: Unit vectors in the whitened space, `[K, D]`.
        """
        self.whitening.mean.copy_(mean)
        self.whitening.projection.copy_(projection)
        self.prototypes.weight.copy_(prototypes)

    def code(self, tokens: Tensor) -> Tensor:
        """Whitened tokens after the MLP, normalised, `[..., D]` to `[..., D]`, in float32 even inside autocast."""
        white = self.whitening(tokens)
        code = white if self.mlp is None else white + self.mlp(white)
        with torch.autocast(code.device.type, enabled=False):
            return F.normalize(code if code.dtype == torch.float64 else code.float(), dim=-1)

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Refuse a published head: these prototypes are the domain's own.

        Raises:
            UserError: Always.
        """
        raise UserError("a calibrated head takes its prototypes from the images, not from a file; set init_head false")
