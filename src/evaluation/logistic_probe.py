"""The converged linear probe of a verdict: multinomial logistic regression on patch tokens, soft patch labels.

A probe trained for a fixed number of SGD steps measures its schedule as well as the features (docs/method.md,
section 11); this one is fitted to convergence, with its penalty chosen on held-back training images.

Shapes: n patches · D width · C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.float64 import where_float64_is
from src.core.keyed_random import KeyedRandom

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # per patch, from strong to weak (our choice)
_BLOCK = 2**16  # patches per block of logits
_SELECTION = 10  # factor on the tolerance when comparing penalties: the loss is then accurate to about 1e-6
_RISE = 1.02  # a held-back cross-entropy this much above the best ends the search (our choice)


@dataclass(frozen=True)
class LogisticProbe:
    """A fitted probe.

    Attributes:
        mean: Mean of the training patches, `[D]`.
        scale: Reciprocal of their standard deviation, `[D]`; 0 where a feature does not vary.
        weight: Weight of the standardised features, `[D, C]`.
        bias: `[C]`.
        penalty: The chosen one.
        held_back: Cross-entropy on the held-back images, nats a patch, by penalty tried; empty if no image was held
            back.
        gradient: Largest component of the final gradient, in coordinates in which the curvature is about 1.
        iterations: L-BFGS iterations of the final fit.
        converged: True if the gradient reached the tolerance.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    penalty: float
    held_back: dict[float, float]
    gradient: float
    iterations: int
    converged: bool

    def logits(self, features: Tensor) -> Tensor:
        """Logits `[..., C]` of patches `[..., D]`."""
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would tie different classes
            standardised = (features.to(self.mean.dtype) - self.mean) * self.scale
            return standardised @ self.weight + self.bias

    def map(self, maps: Tensor) -> Tensor:
        """Logits `[B, C, h, w]` of feature maps `[B, D, h, w]`."""
        return self.logits(maps.movedim(1, -1)).movedim(-1, 1)


def fit_logistic_probe(
    features: Tensor,
    targets: Tensor,
    images: Tensor,
    penalties: Sequence[float] = PENALTIES,
    holdout: float = 0.2,
    seed: int = 0,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
) -> LogisticProbe:
    """Minimise mean cross-entropy + penalty / 2 · ‖W‖² over weights W of standardised features, the bias unpenalised.

    scikit-learn's `LogisticRegression(C=1 / (n · penalty))`. The penalty with the lowest cross-entropy on a fifth of
    the training *images* is chosen (patches of one image are too similar to be held back one by one), then all images
    are fitted. Penalties are tried from strong to weak until the held-back cross-entropy rises. Deterministic; computed
    on the device and in the precision of `features`, with the memory of two copies of them.

    Args:
        features: `[n, D]`, float32 or float64.
        targets: Soft labels `[n, C]`, rows that sum to 1; exclude unlabelled patches first.
        images: Index of each patch's image, int64 `[n]`.
        penalties: Candidates, in any order; with a single one no image is held back.
        holdout: Share of the images that is held back, at least one.
        seed: Random seed of the held-back images, which depend on (seed, image index) alone.
        tolerance: For the largest gradient component in preconditioned coordinates; the loss is then within about its
            square of the minimum.
        max_iterations: Per fit; 500 is several times the need of any data set tried (our choice).

    Raises:
        UserError: If shapes disagree, there is no patch, a value is not finite, a penalty is not positive, or the
            penalty is to be chosen on a single image.
    """
    _check(features, targets, images, penalties)
    device = features.device
    features, targets, images = (where_float64_is(tensor) for tensor in (features, targets, images))
    ordered = sorted(penalties, reverse=True)
    held = _held_back(images, holdout, seed) if len(ordered) > 1 else torch.zeros_like(images, dtype=torch.bool)
    order = torch.cat(((~held).nonzero().flatten(), held.nonzero().flatten()))  # held-back patches last: views below
    fitted = len(images) - int(held.sum())
    mean = features.mean(dim=0, dtype=torch.float64)
    deviation = torch.stack([(part.double() - mean).square().sum(dim=0) for part in features.split(_BLOCK)]).sum(dim=0)
    deviation = (deviation / len(features)).sqrt()
    varies = deviation > 1e-6 * mean.abs() + 1e-12
    scale = torch.where(varies, 1 / deviation.clamp(min=1e-12), 0).to(features.dtype)
    mean = mean.to(features.dtype)
    inputs = (features[order] - mean).mul_(scale)
    labels = targets[order].to(features.dtype)
    gram = torch.stack([(part.T @ part).double() for part in inputs.split(_BLOCK)]).sum(dim=0) / len(inputs)
    variances, axes = torch.linalg.eigh(gram)
    axes = axes.to(inputs.dtype)
    for part in inputs.split(_BLOCK):  # in place: from here on in the eigenbasis of the features' covariance
        part.copy_(part @ axes)

    solutions: dict[float, LogisticProbe] = {}
    scores: dict[float, float] = {}
    if len(ordered) > 1:
        problem = _Problem(inputs[:fitted], labels[:fitted], variances)
        for penalty in ordered:  # warm start: weaker penalties begin at the solution of stronger ones
            start = solutions[min(solutions)] if solutions else problem.start()
            solutions[penalty] = problem.minimise(penalty, start, _SELECTION * tolerance, max_iterations)
            scores[penalty] = _cross_entropy(inputs[fitted:], labels[fitted:], solutions[penalty])
            if scores[penalty] > _RISE * min(scores.values()):
                break  # it overfits, and weaker penalties, which are by far the slowest to fit, would overfit more
    chosen = min(scores, key=lambda penalty: scores[penalty]) if scores else ordered[0]
    problem = _Problem(inputs, labels, variances)
    solution = problem.minimise(chosen, solutions.get(chosen, problem.start()), tolerance, max_iterations)
    mean, scale, weight, bias = (part.to(device) for part in (mean, scale, axes @ solution.weight, solution.bias))
    return replace(solution, mean=mean, scale=scale, weight=weight, bias=bias, held_back=scores)


class _Problem:
    """Loss and gradient on decorrelated patches, minimised in coordinates U in which its curvature is about 1.

    The Hessian of class c's weights is near κ_c diag(variances) + penalty, where κ_c is the mean of p_c (1 − p_c) at
    the start; with W = U / √Hessian a fit takes tens of iterations instead of thousands.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, variances: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        self.variances = variances.clamp(min=0)

    def start(self) -> LogisticProbe:
        """Zero weights, and the class frequencies."""
        width, shares = self.inputs.shape[1], self.labels.mean(dim=0)
        return _unfinished(self.inputs.new_zeros(width, len(shares)), (shares + 1e-6).log())

    def minimise(self, penalty: float, start: LogisticProbe, tolerance: float, max_iterations: int) -> LogisticProbe:
        """Weights of one penalty, in the basis of the inputs."""
        certainty = torch.zeros_like(start.bias)
        for part in self.inputs.split(_BLOCK):
            shares = torch.addmm(start.bias, part, start.weight).softmax(dim=1)
            certainty += (shares * (1 - shares)).sum(dim=0)
        curvature = (certainty / len(self.inputs)).double().clamp(min=1e-6)  # κ (our choice)
        rows = torch.cat((self.variances[:, None] * curvature + penalty, curvature[None]))  # [D + 1, C], bias last
        unit = rows.rsqrt().to(self.inputs.dtype)
        state = (torch.cat((start.weight, start.bias[None])) / unit).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [state],
            max_iter=max_iterations,
            max_eval=2 * max_iterations,
            tolerance_grad=tolerance,
            tolerance_change=0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def closure() -> Tensor:
            weight, bias = (state * unit).split([len(state) - 1, 1])
            loss, gradient = self._loss(weight, bias[0])
            gradient[:-1] += penalty * weight
            state.grad = gradient * unit
            return loss + penalty / 2 * weight.double().square().sum()

        optimizer.step(closure)
        closure()
        assert state.grad is not None
        gradient, solved = float(state.grad.abs().max()), state.detach() * unit
        return replace(
            _unfinished(solved[:-1], solved[-1]),
            penalty=penalty,
            gradient=gradient,
            iterations=int(optimizer.state[state]["n_iter"]),
            converged=gradient <= tolerance,
        )

    def _loss(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (float64) and its gradient, `[D + 1, C]`, the bias last."""
        loss = self.inputs.new_zeros((), dtype=torch.float64)
        weight_gradient, bias_gradient = torch.zeros_like(weight), torch.zeros_like(bias)
        for inputs, labels in zip(self.inputs.split(_BLOCK), self.labels.split(_BLOCK), strict=True):
            logs = torch.addmm(bias, inputs, weight).log_softmax(dim=1)
            loss -= (labels * logs).sum(dtype=torch.float64)
            excess = logs.exp_().sub_(labels)  # [block, C]
            weight_gradient.addmm_(inputs.T, excess)
            bias_gradient += excess.sum(dim=0)
        return loss / len(self.inputs), torch.cat((weight_gradient, bias_gradient[None])) / len(self.inputs)


def _unfinished(weight: Tensor, bias: Tensor) -> LogisticProbe:
    """Weights and biases for standardised features, without the other fields."""
    mean, scale = weight.new_zeros(len(weight)), weight.new_ones(len(weight))
    return LogisticProbe(mean, scale, weight, bias, 0.0, {}, float("inf"), 0, False)


def _cross_entropy(inputs: Tensor, labels: Tensor, probe: LogisticProbe) -> float:
    total = 0.0
    for some, wanted in zip(inputs.split(_BLOCK), labels.split(_BLOCK), strict=True):
        logs = torch.addmm(probe.bias, some, probe.weight).log_softmax(dim=1)
        total -= float((wanted * logs).sum(dtype=torch.float64))
    return total / len(inputs)


def _held_back(images: Tensor, share: float, seed: int) -> Tensor:
    """True for patches of held-back images, bool `[n]`: the images with the smallest keys."""
    indices, owner = images.unique(return_inverse=True)
    if len(indices) < 2:
        raise UserError(
            "logistic probe: choosing a penalty takes at least 2 labelled training images, found 1; give a single "
            "penalty or label another image"
        )
    random = KeyedRandom(seed, torch.zeros_like(indices), indices)
    keys = random.uniform("held back").flatten()
    count = min(max(1, round(share * len(indices))), len(indices) - 1)
    chosen = torch.zeros_like(indices, dtype=torch.bool)
    chosen[keys.argsort(stable=True)[:count]] = True
    return chosen[owner]


def _check(features: Tensor, targets: Tensor, images: Tensor, penalties: Sequence[float]) -> None:
    if features.ndim != 2 or targets.ndim != 2 or not len(features) == len(targets) == len(images):
        raise UserError(
            f"logistic probe: expected features [n, D], targets [n, C] and images [n], found {list(features.shape)}, "
            f"{list(targets.shape)} and {list(images.shape)}"
        )
    if not len(features):
        raise UserError("logistic probe: no labelled patch; there is nothing to fit")
    if not penalties or min(penalties) <= 0:
        raise UserError(f"logistic probe: expected penalties above 0, at least one, found {list(penalties)}")
    if not bool(features.isfinite().all()):
        raise UserError("logistic probe: expected finite features, found NaN or infinite values")
