"""The fair rule over the product of what each measure may say."""

from dataclasses import replace
from itertools import product

import pytest

from src.evaluation.fair_verdict import FairEvidence, fair_verdict
from src.evaluation.significance import Interval


def change(difference: float, width: float = 1.0) -> Interval:
    return Interval(difference, difference - width, difference + width, 0.5)


def evidence(linear: float, neighbours: float, precision: float, entropy: float, seeds: int = 3) -> FairEvidence:
    return FairEvidence(change(linear), change(precision), change(entropy), change(neighbours), seeds)


@pytest.mark.parametrize(
    ("linear", "neighbours", "precision", "entropy", "word"),
    [
        (5.8, 6.3, 4, -18, "helped"),
        (5.8, 6.3, 0.2, 0.3, "helped"),  # ranking unsure: nothing against it
        (5.8, 0.2, 4, -18, "inconclusive"),  # one of the two is not enough
        (0.5, 6.3, 4, -18, "inconclusive"),  # a change of metric
        (5.8, 6.3, 4, 3, "mixed"),
        (5.8, 6.3, -3, -18, "mixed"),
        (5.8, -3, 4, -18, "mixed"),
        (-3.8, 0, 2.5, -9.5, "mixed"),  # thin classes
        (-3.8, 0, -2, -9.5, "mixed"),
        (-1.3, 0.2, -2, 3, "harmed"),
        (-1.3, 0.2, -0.2, 0, "harmed"),
        (-1.3, 0.2, 0.2, 0.5, "harmed"),
        (-1.3, 0.2, 0.2, -0.5, "inconclusive"),  # neither got worse
        (-1.3, 6, -2, 3, "harmed"),
        (0.1, 0.1, -3, 3, "inconclusive"),
    ],
)
def test_the_rule(linear: float, neighbours: float, precision: float, entropy: float, word: str) -> None:
    found = fair_verdict(evidence(linear, neighbours, precision, entropy))
    assert found.word == word
    sentence = found.sentence()
    assert sentence.startswith(f"Adaptation {word}:" if word in ("helped", "harmed") else f"Adaptation: {word}:")
    assert found.reason in sentence and "One seed" not in sentence


def test_every_combination_keeps_the_rule() -> None:
    for linear, neighbours, precision, entropy in product((-3, -0.5, 0.5, 3), repeat=4):
        word = fair_verdict(evidence(linear, neighbours, precision, entropy)).word
        opposed = abs(linear) > 1 and (precision * linear == -9 or entropy * linear == 9)
        assert (word == "helped") == (linear == neighbours == 3 and not opposed)
        assert (word == "harmed") == (linear == -3 and (precision < 0 or entropy > 0) and not opposed)
        if opposed:
            assert word == "mixed"


def test_mixed_says_which_number_disagrees() -> None:
    sentence = fair_verdict(evidence(-3.8, 0, 2.5, -9.5)).sentence()
    assert "mIoU fell while its average precision and cross-entropy improved" in sentence and "thin" in sentence
    assert "linear mIoU −3.8 (−4.8 to −2.8)" in sentence and "cross-entropy −9.5 % (−10.5 to −8.5)" in sentence
    assert "cross-entropy got worse" in fair_verdict(evidence(5, 5, 0, 3)).sentence()


@pytest.mark.parametrize(
    ("linear", "averaged", "over", "expected"),
    [
        (5.8, 3.4, 2.4, "no"),
        (2.0, 2.6, -0.6, "better"),  # helped, yet below the averaged frozen model
        (0.2, 0.7, -0.5, "no"),
        (0.2, 3.7, -3.5, "better"),
        (0.2, 1.5, -0.9, "helps"),
        (-3.0, -2.0, -1.5, "better"),
    ],
)
def test_the_cheaper_way_is_named(linear: float, averaged: float, over: float, expected: str) -> None:
    rows = replace(evidence(linear, 3, 1, -3), averaged=change(averaged), over_averaged=change(over))
    found = fair_verdict(rows)
    assert found.averaging == expected
    assert ("better choice" in found.sentence()) == (expected == "better")
    assert ("helps without training" in found.sentence()) == (expected == "helps")


def test_one_seed_is_said() -> None:
    assert (
        "One seed: the intervals cover the choice of images" in fair_verdict(evidence(3, 3, 3, -3, seeds=1)).sentence()
    )
