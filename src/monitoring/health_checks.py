"""What is wrong with a pre-training, judged from its loss and its vital signs: a sentence, or None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from src.monitoring.feature_metrics import MetricPair


def not_finite(loss: float | None, signs: Mapping[str, MetricPair]) -> str | None:
    """NaN or infinity in the loss or in the features, which nothing heals."""
    if loss is not None and not math.isfinite(loss):
        return f"the loss is {loss}"
    if signs and all(math.isnan(sign.adapted) for sign in signs.values()):
        return "the features hold NaN or infinite values"
    return None


def spiked(loss: float, before: Sequence[float], spike: float) -> str | None:
    """A loss above `spike` times the median of those before."""
    if not before or not loss > spike * median(before):
        return None
    return f"the loss is {loss:.4g}, more than {spike:g} times its median of {median(before):.4g}"


def collapsed(signs: Mapping[str, MetricPair], rank_share: float, uniform: float) -> str | None:
    """Features that use few directions, or targets that say nothing on any level.

    Args:
        signs: Of one check.
        rank_share: Smallest share of the frozen rank that is no collapse.
        uniform: Share of log K from which a level's entropy is that of uniform targets.
    """
    for name in ("rank/cls", "rank/patches"):
        if name in signs and signs[name].adapted < rank_share * signs[name].frozen:
            adapted, frozen = signs[name]
            return f"{name} is {adapted:.1f}, less than {rank_share:.0%} of the frozen backbone's {frozen:.1f}"
    entropies, usages = (
        [sign.adapted for name, sign in signs.items() if name.startswith(kind)] for kind in ("entropy/", "usage/")
    )
    if entropies and min(entropies) >= uniform:
        return f"the targets of every level are uniform: their entropy is {min(entropies):.5f} of log K or more"
    if (
        usages and max(usages) < 2
    ):  # low entropy alone is none: targets may be certain and yet differ from patch to patch
        return f"the targets of every level are one prototype: they use {max(usages):.2f} or fewer"
    return None


def harmed(signs: Mapping[str, MetricPair], name: str, margin: float) -> str | None:
    """A monitor, larger is better, that is more than a margin below its frozen value."""
    adapted, frozen = signs[name]
    if not adapted < frozen - margin:
        return None
    return f"{name} is {adapted:.3f}, more than {margin:g} below the frozen backbone's {frozen:.3f}"
