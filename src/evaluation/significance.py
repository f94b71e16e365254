"""Paired comparison over seeds and images, with confidence intervals.

Shapes: S seeds, N images, C classes, B bootstrap draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # not scipy.stats, which takes a second to import

from src.core.errors import UserError

Array = NDArray[np.float64]
POINTS = 100.0  # IoU is reported in percentage points, as in papers


@dataclass(frozen=True)
class Interval:
    """Difference in points with its interval, and the probability that the true one is above zero."""

    difference: float
    low: float
    high: float
    probability: float

    @property
    def certain(self) -> bool:
        """True if the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Verdict:
    """Verdict on one pair of rows in one column."""

    miou: Interval
    classes: dict[str, Interval]  # intervals widened for the number of classes (Bonferroni)
    seeds: int
    images: int
    level: float

    @property
    def word(self) -> str:
        """One of `helped`, `harmed`, `inconclusive`, `one seed`."""
        if self.seeds < 2:
            return "one seed"
        if not self.miou.certain:
            return "inconclusive"
        return "helped" if self.miou.difference > 0 else "harmed"

    @property
    def moved(self) -> dict[str, Interval]:
        """Classes that changed significantly, largest change first; none with a single seed."""
        certain = {name: item for name, item in self.classes.items() if item.certain and self.seeds > 1}
        return dict(sorted(certain.items(), key=lambda pair: -abs(pair[1].difference)))

    def class_sentence(self) -> str:
        """One sentence on the classes that changed significantly."""
        if self.seeds < 2:
            return "A single seed cannot show which classes changed significantly."
        if not self.moved:
            return f"None of {len(self.classes)} classes changed significantly."
        listed = ", ".join(
            f"{name} {signed(item.difference)} ({signed(item.low)} to {signed(item.high)})"
            for name, item in self.moved.items()
        )
        return f"{len(self.moved)} of {len(self.classes)} classes changed significantly: {listed}."

    def sentence(self, row: str = "Adaptation") -> str:
        """The verdict in one plain sentence."""
        change = f"{signed(self.miou.difference)} mIoU"
        interval = f"{100 * self.level:g} % interval {signed(self.miou.low)} to {signed(self.miou.high)}"
        if self.word == "one seed":
            return (
                f"{row}: {change} on {self.images} images, but from a single seed, so nothing is certain: "
                f"the {interval} covers the choice of images only. Run at least two more seeds."
            )
        basis = (
            f"{interval}, {self.seeds} seeds, {self.images} images, "
            f"probability of improvement {probability_text(self.miou.probability)}"
        )
        if self.word == "inconclusive":
            return f"{row}: inconclusive, the {100 * self.level:g} % interval includes zero: {change} ({basis})."
        return f"{row} {self.word}: {change} ({basis})."


def judge(
    baseline: Sequence[NDArray[np.int64]],
    adapted: Sequence[NDArray[np.int64]],
    class_names: Sequence[str],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Compare two rows on the same images over paired seeds.

    Images are resampled in a paired bootstrap of the mean difference over seeds; seeds contribute the variance of their
    differences. Both variances are added; the part of the seeds' variance due to noise of single images (good with one
    seed, bad with another) is counted once. The critical value is our choice: midway between Satterthwaite's t, which
    is a little too short for two or three seeds, and Cochran's, which is a little too long. Simulated coverage of zero
    is in `tests/evaluation/test_significance.py`.

    Args:
        baseline: per seed, confusion matrices [N, C, C] of the row to compare with. A single one is a row without any
            randomness, paired with each seed of `adapted`.
        adapted: per seed, confusion matrices [N, C, C] of the same images in the same order.
        class_names: C names.
        level: of the interval.
        draws: bootstrap draws B; 2,000 is our choice.
        seed: of the bootstrap.

    Raises:
        UserError: if the matrices do not belong to the same images and classes, or the seeds do not pair up.
    """
    return judge_overlaps(
        [overlaps(m) for m in baseline], [overlaps(m) for m in adapted], class_names, level, draws, seed
    )


def judge_overlaps(
    baseline: Sequence[Array],
    adapted: Sequence[Array],
    class_names: Sequence[str],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Verdict:
    """`judge` from what it needs of the confusion matrices: intersections and unions [N, 2, C] per seed (`overlaps`).

    Raises:
        UserError: as `judge`.
    """
    before, after = paired(baseline, adapted)
    if len(class_names) != before.shape[-1]:
        raise UserError(f"{len(class_names)} class names for {before.shape[-1]} classes")
    seeds, images = before.shape[:2]
    observed = difference(before.sum(1), after.sum(1))  # [S, 1 + C]
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)  # [B, N]
    drawn = difference(resampled(weights, before), resampled(weights, after))  # [B, S, 1 + C]

    names = ["", *class_names]
    # A class that is absent from all images has no IoU, and so no change.
    known = [index for index in range(len(names)) if np.isfinite(observed[:, index]).all()]
    intervals = {
        names[index]: interval(
            observed[:, index],
            drawn[:, :, index],
            images,
            level if index == 0 else 1 - (1 - level) / max(1, len(known) - 1),
        )
        for index in known
    }
    miou = intervals.pop("")
    return Verdict(miou=miou, classes=intervals, seeds=seeds, images=images, level=level)


def interval(observed: Array, drawn: Array, images: int, level: float) -> Interval:
    """Interval of the mean of `observed` [S], given bootstrap draws [B, S] of it over images."""
    seeds = len(observed)
    mean = float(observed.mean())
    small_sample = images / max(1, images - 1)  # a bootstrap over N images has (N - 1) / N of the variance
    image_variance = float(np.nanvar(np.nanmean(drawn, axis=1))) * small_sample
    if seeds > 1:
        spread = float(observed.var(ddof=1)) / seeds
        own_noise = drawn - np.nanmean(drawn, axis=1, keepdims=True)  # each seed's deviation on the images alone
        interaction = float(np.nanvar(own_noise, axis=0).sum()) * small_sample / (seeds - 1) / seeds
        seed_variance = max(0.0, spread - interaction)
        variance = image_variance + seed_variance
        # The part with S - 1 degrees of freedom is as noisy as all of `spread`, so it counts as slightly more
        # than it is: a quarter of the way (our choice).
        share = (0.75 * seed_variance + 0.25 * min(spread, variance)) / max(variance, 1e-300)
    else:
        variance, share = image_variance, 0.0
    error = float(np.sqrt(variance))
    if error < 1e-12:
        return Interval(mean, mean, mean, 0.5 if mean == 0 else float(mean > 0))
    width = critical(level, share, seeds, images) * error
    return Interval(mean, mean - width, mean + width, probability_above_zero(mean / error, share, seeds, images))


def critical(level: float, share: float, seeds: int, images: int) -> float:
    """Two-sided critical value where `share` of the variance has S - 1 and the rest N - 1 degrees of freedom."""
    of_seeds, of_images = max(1, seeds - 1), max(1, images - 1)
    tail = 0.5 + level / 2
    satterthwaite = special.stdtrit(1 / (share**2 / of_seeds + (1 - share) ** 2 / of_images), tail)
    cochran = share * special.stdtrit(of_seeds, tail) + (1 - share) * special.stdtrit(of_images, tail)
    return float(satterthwaite + cochran) / 2


def probability_above_zero(ratio: float, share: float, seeds: int, images: int) -> float:
    """The level at which an interval with this ratio of mean to error just touches zero, as a one-sided probability."""
    low, high = 0.0, 1.0
    for _ in range(50):  # `critical` grows with the level, so bisect
        middle = (low + high) / 2
        low, high = (middle, high) if critical(middle, share, seeds, images) < abs(ratio) else (low, middle)
    return 0.5 + low / 2 if ratio > 0 else 0.5 - low / 2


def paired(baseline: Sequence[Array], adapted: Sequence[Array]) -> tuple[Array, Array]:
    """Intersections and unions [S, N, 2, C] of both rows, seed by seed."""
    if not baseline or not adapted:
        raise UserError("a verdict needs results of both rows, and one of them has none")
    if len({counts.shape for counts in (*baseline, *adapted)}) > 1:
        found = sorted({f"{len(counts)} images and {counts.shape[-1]} classes" for counts in (*baseline, *adapted)})
        raise UserError(f"a verdict needs the same images and classes in both rows, found {' against '.join(found)}")
    if len(baseline) == 1:
        baseline = list(baseline) * len(adapted)
    if len(baseline) != len(adapted):
        raise UserError(f"a verdict pairs seeds, found {len(baseline)} of one row and {len(adapted)} of the other")
    return np.stack(baseline), np.stack(adapted)


def overlaps(matrices: NDArray[np.int64]) -> Array:
    """Intersection and union per image and class, [N, 2, C], of confusion matrices [N, C, C]."""
    inside = np.diagonal(matrices, axis1=1, axis2=2)
    union = matrices.sum(1) + matrices.sum(2) - inside
    return np.stack([inside, union], axis=1).astype(np.float64)


def resampled(weights: NDArray[np.int64], counts: Array) -> Array:
    """Sums over resampled images, [B, S, 2, C], of counts [S, N, 2, C]."""
    flat = counts.transpose(1, 0, 2, 3).reshape(counts.shape[1], -1)
    return (weights.astype(np.float64) @ flat).reshape(len(weights), counts.shape[0], 2, counts.shape[-1])


def difference(before: Array, after: Array) -> Array:
    """Change in points, [..., 1 + C]: mIoU first, then each class, of summed counts [..., 2, C]."""
    return POINTS * (scores(after) - scores(before))


def scores(counts: Array) -> Array:
    """mIoU and IoU of each class, [..., 1 + C]; a class with an empty union is NaN and left out of the mean."""
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = counts[..., 0, :] / counts[..., 1, :]
    present = np.isfinite(iou)
    mean = np.where(present, iou, 0).sum(-1) / np.maximum(1, present.sum(-1))
    return np.concatenate([mean[..., None], iou], axis=-1)


def signed(points: float, digits: int = 1) -> str:
    """Format a change with its sign, as a true minus, and without one if it rounds to zero."""
    text = f"{points:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def probability_text(probability: float) -> str:
    """Format a probability in per cent, never as 0 or 100."""
    if probability > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
