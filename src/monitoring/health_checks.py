"""Health checks of a pre-training run, from its loss and feature metrics: a sentence on the fault, or None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from src.evaluation.retention import nothing_left
from src.monitoring.feature_metrics import MetricPair

INFORMED = 1.0  # nats between frozen targets and their mean from which their usage is meaningful (our choice)
STRUCTURE_MARGIN = 0.3  # margin of dense structure, wide since it also falls in runs that help (our choice)
RETAINED = 0.02  # share of the frozen features' own retention below which nothing is left of them (our choice)


def not_finite(loss: float | None, signs: Mapping[str, MetricPair]) -> str | None:
    """NaN or infinity in the loss or in the features, which is final."""
    if loss is not None and not math.isfinite(loss):
        return f"the loss is {loss}"
    if signs and all(math.isnan(sign.adapted) for sign in signs.values()):
        return "the features hold NaN or infinite values"
    return None


def spiked(loss: float, before: Sequence[float], spike: float) -> str | None:
    """A loss above `spike` times the median of earlier ones."""
    if not before or not loss > spike * median(before):
        return None
    return f"the loss is {loss:.4g}, more than {spike:g} times its median of {median(before):.4g}"


def collapsed(signs: Mapping[str, MetricPair], rank_share: float, uniform: float) -> str | None:
    """Features with few directions, or targets without information on any level.

    Args:
        signs: Metrics of one check.
        rank_share: Smallest share of the frozen rank that does not count as collapse.
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
    if usages and max(usages) < 2:  # low entropy alone is fine: confident targets may still differ from patch to patch
        return f"the targets of every level have collapsed to one prototype: they use {max(usages):.2f} or fewer"
    return None


def narrowed(signs: Mapping[str, MetricPair], share: float) -> str | None:
    """Targets of every level that use few of the prototypes that the frozen targets use (`CalibratedHead`).

    A moving teacher sharpens its own targets until different patches get the same one. Levels with uninformative frozen
    targets, as from a randomly initialised head, are left out: their usage falls as they learn.

    Args:
        signs: Metrics of one check.
        share: Smallest acceptable share of the frozen usage.
    """
    levels = [
        name.removeprefix("kl_mean/")
        for name, sign in signs.items()
        if name.startswith("kl_mean/") and sign.frozen >= INFORMED
    ]
    usages = [signs[f"usage/{level}"] for level in levels if f"usage/{level}" in signs]
    if not usages or any(sign.adapted >= share * sign.frozen for sign in usages):
        return None
    most = max(usages, key=lambda sign: sign.adapted / sign.frozen)
    return (
        f"the targets have narrowed to {most.adapted:.1f} prototypes, less than {share:.0%} of the {most.frozen:.1f} "
        "that the frozen backbone's targets use"
    )


def uninformative(signs: Mapping[str, MetricPair], least: float) -> str | None:
    """Targets without information on any level: all patches get nearly the same one (docs/method.md, section 12).

    Args:
        signs: Metrics of one check.
        least: KL of targets to their own mean, in nats, that counts as informative.
    """
    informed = {name: sign.adapted for name, sign in signs.items() if name.startswith("kl_mean/")}
    if not informed or not max(informed.values()) < least:
        return None
    level, most = max(informed.items(), key=lambda item: item[1])
    return (
        "the targets of every level carry almost no information: their KL divergence to their own mean is "
        f"{most:.4f} nats at most ({level.removeprefix('kl_mean/')}), less than {least:g}, "
        "so there is nothing to learn from them"
    )


def unstructured(signs: Mapping[str, MetricPair], margin: float) -> str | None:
    """Dense structure of the sample below the frozen one's by more than a margin, interval included."""
    if (
        "structure/upper" not in signs
        or not signs["structure/upper"].adapted < signs["structure/upper"].frozen - margin
    ):
        return None
    adapted, frozen = signs["structure"]
    return (
        f"the dense structure is {adapted:.3f}, more than {margin:g} below the frozen backbone's {frozen:.3f}, the "
        "upper end of its interval included"
    )


def forgotten(signs: Mapping[str, MetricPair], share: float) -> str | None:
    """Features from which little of the frozen ones can be recovered (`evaluation/retention.py`).

    Args:
        signs: Metrics of one check.
        share: Smallest acceptable share of what can be recovered from the frozen features themselves.
    """
    if "retention" not in signs or not nothing_left(*signs["retention"], share):
        return None
    adapted, frozen = signs["retention"]
    return (
        f"only {max(adapted, 0):.1%} of the frozen features' variance can be recovered from the adapted ones, less "
        f"than {share:.0%} of the {frozen:.1%} that can be from themselves"
    )


def harmed(signs: Mapping[str, MetricPair], name: str, margin: float) -> str | None:
    """A monitor, larger is better, more than a margin below its frozen value."""
    adapted, frozen = signs[name]
    if not adapted < frozen - margin:
        return None
    return f"{name} is {adapted:.3f}, more than {margin:g} below the frozen backbone's {frozen:.3f}"
