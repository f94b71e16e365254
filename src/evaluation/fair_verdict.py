"""Verdict from several measures of the same features, against baselines without training.

A nearest-neighbour gain may be only a change of metric, and mIoU by argmax misses thin classes, so the rule of
docs/method.md, section 11, requires agreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.evaluation.paired_interval import ImageStatistic, paired_interval
from src.evaluation.significance import Interval, signed


@dataclass(frozen=True)
class FairEvidence:
    """Changes with their intervals over images (and seeds); differences of mIoU and average precision in points.

    Attributes:
        linear: mIoU of the converged linear probe, adapted against frozen.
        average_precision: Average precision of the same probe.
        cross_entropy: Cross entropy of the same probe, in per cent of frozen's; below zero is better.
        neighbours: mIoU of whitened 30-NN, adapted whitened against frozen whitened.
        seeds: Runs of the adapted row; 0 if nothing in it is random.
        matched: mIoU of the probe at matched class frequencies, adapted against frozen; None if not measured.
        averaged: Linear mIoU, frozen averaged at test time against frozen; None if not measured.
        over_averaged: Linear mIoU, adapted against frozen averaged at test time; None if not measured.
    """

    linear: Interval
    average_precision: Interval
    cross_entropy: Interval
    neighbours: Interval
    seeds: int
    matched: Interval | None = None
    averaged: Interval | None = None
    over_averaged: Interval | None = None


@dataclass(frozen=True)
class FairVerdict:
    """The verdict.

    Attributes:
        word: `helped`, `harmed`, `mixed` or `inconclusive`.
        reason: One clause.
        averaging: `better`: the frozen model averaged at test time beats the adapted one; `helps`: it gains over
            frozen where adaptation did not help; `no`: neither, or it was not measured.
        evidence: The changes behind it.
    """

    word: str
    reason: str
    averaging: str
    evidence: FairEvidence

    def sentence(self, row: str = "Adaptation") -> str:
        """The verdict in words, with its numbers and, if any, the cheaper alternative."""
        evidence = self.evidence
        heading = f"{row} {self.word}" if self.word in ("helped", "harmed") else f"{row}: {self.word}"
        heading += " on these images" if evidence.seeds == 1 and self.word in ("helped", "harmed") else ""
        numbers = (
            f"linear mIoU {_in_words(evidence.linear)}, whitened 30-NN {_in_words(evidence.neighbours)}, "
            f"average precision {_in_words(evidence.average_precision)}, "
            f"cross-entropy {_in_words(evidence.cross_entropy, ' %')}"
        )
        sentences = [f"{heading}: {self.reason} ({numbers})."]
        if self.averaging == "better":
            assert evidence.over_averaged is not None
            sentences.append(
                "The frozen model averaged over flips and scales is the better choice: adapted features differ from "
                f"it by {_in_words(evidence.over_averaged)} linear mIoU, and it needs no training."
            )
        elif self.averaging == "helps":
            assert evidence.averaged is not None
            sentences.append(
                "Averaging the frozen model over flips and scales helps without training: "
                f"{_in_words(evidence.averaged)} linear mIoU."
            )
        if evidence.seeds == 1:
            sentences.append("One seed: the intervals cover the choice of images, not the variation between runs.")
        return " ".join(sentences)


def compare_scores(
    before: Mapping[str, ImageStatistic],
    after: Sequence[Mapping[str, ImageStatistic]],
    averaged: ImageStatistic | None = None,
    random: bool = True,
) -> tuple[dict[str, Interval], FairVerdict]:
    """Adapted rows, one per seed, against the frozen one: an interval per score, and the verdict.

    Args:
        before: Scores of the frozen row by name, among them `miou`, `average_precision`, `cross_entropy`,
            `matched_miou` and `whitened_knn`; without randomness.
        after: The same scores of the adapted row, one mapping per seed.
        averaged: Linear mIoU of the frozen backbone averaged over flips and scales, if it was measured.
        random: Whether another run of the row would give other scores.

    Returns:
        Changes by name, of `cross_entropy` in per cent and of the others in points, and the verdict.
    """
    changes = {
        name: paired_interval([before[name]], [row[name] for row in after], relative=name == "cross_entropy")
        for name in before
    }
    evidence = FairEvidence(
        linear=changes["miou"],
        average_precision=changes["average_precision"],
        cross_entropy=changes["cross_entropy"],
        neighbours=changes["whitened_knn"],
        seeds=len(after) if random else 0,
        matched=changes["matched_miou"],
        averaged=None if averaged is None else paired_interval([before["miou"]], [averaged]),
        over_averaged=None if averaged is None else paired_interval([averaged], [row["miou"] for row in after]),
    )
    return changes, fair_verdict(evidence)


def fair_verdict(evidence: FairEvidence) -> FairVerdict:
    """Apply the rule of docs/method.md, section 11.

    - *mixed*: linear mIoU moved beyond its interval, and average precision or cross-entropy beyond theirs the other
      way; or the probe gained and nearest neighbours lost (our choice).
    - *helped*: linear mIoU and whitened 30-NN gained, both beyond their intervals.
    - *harmed*: linear mIoU fell beyond its interval, and average precision or cross-entropy got worse as well.
    - *inconclusive*: anything else.
    """
    word, reason = _judged(evidence)
    averaging = "no"
    if evidence.over_averaged is not None and _behind(evidence.over_averaged, word):
        averaging = "better"
    elif word != "helped" and evidence.averaged is not None and evidence.averaged.low > 0:
        averaging = "helps"
    return FairVerdict(word, reason, averaging, evidence)


def _judged(evidence: FairEvidence) -> tuple[str, str]:
    linear, neighbours = _sign(evidence.linear), _sign(evidence.neighbours)
    ranking = {
        "average precision": (evidence.average_precision.difference, _sign(evidence.average_precision)),
        "cross-entropy": (-evidence.cross_entropy.difference, -_sign(evidence.cross_entropy)),  # above zero is better
    }
    against = [name for name, (_, sign) in ranking.items() if linear and sign == -linear]
    if against:
        names = " and ".join(against)
        if linear < 0:
            return "mixed", (
                f"the probe's mIoU fell while its {names} improved, as happens when classes too thin to win a patch "
                "are ranked better"
            )
        return "mixed", f"the probe's mIoU rose while its {names} got worse"
    if linear > 0 and neighbours > 0:
        return "helped", "the linear probe gained over frozen, and whitened nearest neighbours over frozen whitened"
    if linear > 0 and neighbours < 0:
        return (
            "mixed",
            "the linear probe gained over frozen, and whitened nearest neighbours lost against frozen whitened",
        )
    worse = [name for name, (change, _) in ranking.items() if change < 0]
    if linear < 0 and worse:
        return "harmed", f"the probe's mIoU fell, and its {' and '.join(worse)} got worse as well"
    if linear < 0:
        return (
            "inconclusive",
            "the probe's mIoU fell, but neither its average precision nor its cross-entropy got worse",
        )
    if linear > 0:
        return "inconclusive", "the linear probe gained, but the interval of whitened nearest neighbours includes zero"
    if neighbours > 0:
        return "inconclusive", "whitened nearest neighbours gained, but the interval of the linear probe includes zero"
    return "inconclusive", "the interval of the linear probe includes zero"


def _behind(over_averaged: Interval, word: str) -> bool:
    """Return whether averaging is better: ahead of a model that helped, or beyond the interval of any other."""
    return over_averaged.difference < 0 if word == "helped" else over_averaged.high < 0


def _sign(change: Interval) -> int:
    """1 or −1 beyond the interval, else 0."""
    return (change.low > 0) - (change.high < 0)


def _in_words(change: Interval, unit: str = "") -> str:
    low, high = signed(change.low), signed(change.high)
    return f"{signed(change.difference)}{unit} ({low} to {high})"
