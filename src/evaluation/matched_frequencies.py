"""Class biases that match predicted to labelled frequencies, so that rare classes are predicted too.

Shapes: n patches · C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.float64 import where_float64_is

_BLOCK = 2**16  # patches at a time in float64
_TEMPERATURES = tuple(2.0**-power for power in range(10))  # in units of the logits' spread: from soft to nearly hard
_STEPS = 30  # Newton steps at each temperature at most; a few suffice


class MatchedBiases(NamedTuple):
    """Biases to add to logits before the argmax.

    Attributes:
        biases: `[C]`; their mean over the classes present is 0. Absent classes are never predicted.
        deviation: Largest difference between a predicted frequency and the label frequency, in [0, 1].
    """

    biases: Tensor
    deviation: float


def match_frequencies(logits: Tensor, shares: Tensor) -> MatchedBiases:
    """Choose biases b so that argmax(logits + b) predicts each class as often as it occurs in the labels.

    They minimise the convex mean max_c(z_c + b_c) − Σ q_c b_c, whose gradient is the difference of the frequencies; its
    maximum is softened by a temperature that falls to 1/512 of the logits' spread, with Newton steps at each. Choose
    them on training patches only.

    Args:
        logits: z, `[n, C]`.
        shares: Soft labels, `[n, C]`; q is their mean.

    Raises:
        UserError: If there is no patch or the shapes differ.
    """
    if not len(logits) or logits.shape != shares.shape:
        raise UserError(
            "matched frequencies: expected logits and shares [n, C] of at least one patch, found "
            f"{list(logits.shape)} and {list(shares.shape)}"
        )
    device = logits.device
    logits, shares = where_float64_is(logits), where_float64_is(shares)
    frequencies = shares.mean(dim=0, dtype=torch.float64)
    occurs = frequencies > 0
    wanted = frequencies[occurs] / frequencies.sum()
    present = logits[:, occurs]
    biases = torch.zeros_like(wanted)
    spread = (present - present.mean(dim=1, keepdim=True)).double().std() if len(wanted) > 1 else wanted.sum()
    for temperature in _TEMPERATURES:
        biases = _minimised(present, wanted, biases, temperature * max(float(spread), 1e-6))
    predicted = torch.stack([(part + biases).argmax(dim=1).bincount(minlength=len(wanted)) for part in _parts(present)])
    deviation = float((predicted.sum(dim=0) / len(logits) - wanted).abs().max())
    never = -2 * float(logits.max() - logits.min()) - float(biases.max() - biases.min()) - 1
    result = torch.full_like(frequencies, never)
    result[occurs] = biases
    return MatchedBiases(result.to(device, logits.dtype), deviation)


def _minimised(logits: Tensor, wanted: Tensor, biases: Tensor, temperature: float) -> Tensor:
    value, gradient, hessian = _softened(logits, wanted, biases, temperature)
    for _ in range(_STEPS):
        if float(gradient.abs().max()) < 1e-6:
            break
        size = hessian.diagonal().mean()  # a common shift of the biases has no curvature, so add some
        ridge = 1e-9 * (size + 1e-12) * torch.eye(len(wanted), dtype=hessian.dtype, device=hessian.device)
        step = torch.linalg.solve(hessian + ridge + size / len(wanted), gradient)
        step = step - step.mean()
        step = step * (32 * temperature / step.abs().max()).clamp(max=1)
        slope, length = float(step @ gradient), 1.0
        while length > 1e-4:
            found = _softened(logits, wanted, biases - length * step, temperature)
            if float(found[0]) <= float(value) - 1e-4 * length * slope:
                break
            length /= 2
        else:
            break  # no step lowers the loss: at the minimum up to rounding
        biases, (value, gradient, hessian) = biases - length * step, found
    return biases


def _softened(logits: Tensor, wanted: Tensor, biases: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient `[C]` and Hessian `[C, C]` of mean τ logsumexp((z + b) / τ) − q · b."""
    value, mean = -(wanted @ biases), torch.zeros_like(wanted)
    moment = torch.zeros(len(wanted), len(wanted), dtype=wanted.dtype, device=wanted.device)
    for part in _parts(logits):
        scaled = (part + biases) / temperature
        shares = scaled.softmax(dim=1)
        value = value + temperature * scaled.logsumexp(dim=1).sum() / len(logits)
        mean += shares.sum(dim=0) / len(logits)
        moment += shares.T @ shares / len(logits)
    return value, mean - wanted, (mean.diag() - moment) / temperature


def _parts(logits: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in logits.split(_BLOCK))
