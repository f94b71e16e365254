"""The projection head that turns tokens into scores over prototypes (docs/method.md, section 4)."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from src.core.errors import UserError
from src.core.numbers import check_number
from src.pretraining.head import Head


class ProjectionHead(Head):
    """MLP with GELU, L2-normalised bottleneck, weight-normalised linear layer to the prototypes.

    One head is shared by class token, patches and regions, as in UDI.

    Args:
        width: D of the tokens.
        prototypes: K; 8192 is our choice.
        hidden: Width of the hidden layers.
        bottleneck: Width before the prototypes.
        layers: Linear layers of the MLP.
        initialisation: `normal`, standard deviation 0.02 as in DINO, or `orthogonal`, with which an untrained MLP
            preserves more of the difference between tokens; our choice for short runs (docs/small-runs.md).
    """

    def __init__(
        self,
        width: int,
        prototypes: int = 8192,
        hidden: int = 2048,
        bottleneck: int = 256,
        layers: int = 3,
        initialisation: Literal["normal", "orthogonal"] = "normal",
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"a projection head needs at least 1 layer, got {layers}")
        for name, value, least in (("prototypes", prototypes, 2), ("hidden", hidden, 1), ("bottleneck", bottleneck, 1)):
            check_number(f"head.{name}", value, least=least)
        sizes = [width] + [hidden] * (layers - 1) + [bottleneck]
        steps: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            steps += [nn.Linear(inputs, outputs), nn.GELU()]
        self.mlp = nn.Sequential(*steps[:-1])
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                if initialisation == "orthogonal":
                    nn.init.orthogonal_(layer.weight, gain=2**0.5)
                else:
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        last: Any = weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        last.parametrizations.weight.original0.data.fill_(1)  # unit prototypes: scores are cosines
        last.parametrizations.weight.original0.requires_grad_(False)
        self.prototypes = last

    def code(self, tokens: Tensor) -> Tensor:
        """Normalised bottleneck, `[..., D]` to `[..., C]`, in float32 even inside autocast."""
        code = self.mlp(tokens)
        with torch.autocast(code.device.type, enabled=False):
            return F.normalize(code if code.dtype == torch.float64 else code.float(), dim=-1)

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Load a published head.

        Raises:
            UserError: If its sizes differ, with those to set.
        """
        ours = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        if ours != {name: tuple(value.shape) for name, value in state.items()}:
            prototypes, bottleneck = state["prototypes.parametrizations.weight.original1"].shape
            layers = sum(name.endswith(".weight") for name in state if name.startswith("mlp."))
            raise UserError(
                f"the published head has {prototypes} prototypes, hidden {len(state['mlp.0.weight'])}, bottleneck "
                f"{bottleneck} and {layers} layers, this one {len(self.prototypes.weight)}, {ours['mlp.0.weight'][0]}, "
                f"{self.prototypes.weight.shape[1]} and {(len(self.mlp) + 1) // 2}; set head.init_args to the former"
            )
        self.load_state_dict(state)
