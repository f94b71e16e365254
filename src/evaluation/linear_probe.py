"""A linear probe in closed form: ridge regression from patch features to patch labels.

Shapes: n patches · D width · C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.float64 import where_float64_is


class RidgeProbe:
    """Ridge regression whose sums are accumulated batch by batch, in float64.

    Solves min ‖XW + b − Y‖² + penalty · ‖W‖² with the bias unpenalised: scikit-learn's `Ridge(alpha=penalty)`.
    Memory is (D + 1)², whatever the number of patches.

    Args:
        width: D.
        classes: C.
        penalty: Ridge penalty λ > 0; 1 is our choice.

    Raises:
        UserError: If the penalty is not positive.
    """

    def __init__(self, width: int, classes: int, penalty: float = 1.0) -> None:
        if penalty <= 0:
            raise UserError(f"RidgeProbe: penalty {penalty}; expected a positive number")
        self.penalty = penalty
        self._gram = torch.zeros(width + 1, width + 1, dtype=torch.float64)  # of [X, 1]
        self._moment = torch.zeros(width + 1, classes, dtype=torch.float64)
        self._solution: Tensor | None = None

    def update(self, features: Tensor, targets: Tensor) -> None:
        """Add patches `[n, D]` with one-hot or soft labels `[n, C]`; exclude unlabelled patches first."""
        inputs = _with_one(features)
        self._gram = self._gram.to(inputs.device) + inputs.T @ inputs
        self._moment = self._moment.to(inputs.device) + inputs.T @ where_float64_is(targets).double()
        self._solution = None

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weight `[D, C]` and bias `[C]`, float64.

        Raises:
            UserError: If no patch was added yet.
        """
        if self._gram[-1, -1] == 0:
            raise UserError("RidgeProbe: no labelled patch was added; there is nothing to solve")
        penalty = torch.full((len(self._gram),), self.penalty, dtype=torch.float64, device=self._gram.device)
        penalty[-1] = 0
        solution = torch.linalg.solve(self._gram + penalty.diag(), self._moment)
        self._solution = solution
        return solution[:-1], solution[-1]

    def predict(self, features: Tensor) -> Tensor:
        """Scores `[n, C]`, float64, of patches `[n, D]`; the largest is the class.

        Raises:
            UserError: If no patch was added yet.
        """
        if self._solution is None:
            self.solve()
        assert self._solution is not None
        return _with_one(features) @ self._solution


def _with_one(features: Tensor) -> Tensor:
    doubles = where_float64_is(features).double()
    return torch.cat((doubles, doubles.new_ones(len(doubles), 1)), dim=1)
