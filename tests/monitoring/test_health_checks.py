"""Runs that count as broken, and runs that do not."""

from __future__ import annotations

import math

import pytest

from src.monitoring.feature_metrics import MetricPair
from src.monitoring.health_checks import collapsed, harmed, narrowed, not_finite, spiked

HEALTHY = {
    "rank/cls": MetricPair(10.0, 12.0),
    "rank/patches": MetricPair(150.0, 200.0),
    "entropy/global": MetricPair(0.9999, 1.0),
    "usage/global": MetricPair(900.0, 1000.0),
    "entropy/local": MetricPair(0.5, 0.6),
    "usage/local": MetricPair(300.0, 400.0),
    "knn": MetricPair(0.38, 0.40),
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),  # one uniform level is no collapse: class tokens of one domain are alike
        ({"rank/cls": MetricPair(3.01, 12.0)}, None),
        ({"rank/cls": MetricPair(2.99, 12.0)}, "rank/cls is 3.0, less than 25% of the frozen backbone's 12.0"),
        ({"rank/patches": MetricPair(1.0, 200.0)}, "rank/patches is 1.0"),
        ({"entropy/local": MetricPair(0.9996, 0.6)}, "every level are uniform"),
        (
            {"entropy/global": MetricPair(0.0, 1.0), "entropy/local": MetricPair(0.0, 0.6)},
            None,
        ),  # certain, but not all the same
        ({"usage/global": MetricPair(1.5, 1.0)}, None),
        ({"usage/global": MetricPair(1.5, 1.0), "usage/local": MetricPair(1.2, 1.0)}, "one prototype: they use 1.50"),
    ],
)
def test_collapse_is_few_directions_or_targets_that_say_nothing_anywhere(changes, said) -> None:
    found = collapsed(HEALTHY | changes, rank_share=0.25, uniform=0.9995)
    assert found is None if said is None else said in (found or "")


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ({"kl_mean/local": MetricPair(1.5, 2.8), "usage/local": MetricPair(8.0, 41.0)}, "narrowed to 8.0 prototypes"),
        ({"kl_mean/local": MetricPair(1.5, 2.8), "usage/local": MetricPair(8.3, 41.0)}, None),
        # a head that started at random: its frozen targets say nothing, and sharpen as it learns
        ({"kl_mean/local": MetricPair(1.5, 0.1), "usage/local": MetricPair(8.0, 900.0)}, None),
        (
            {
                "kl_mean/local": MetricPair(1.5, 2.8),
                "usage/local": MetricPair(8.0, 41.0),
                "kl_mean/regional": MetricPair(2.0, 2.8),
                "usage/regional": MetricPair(20.0, 41.0),
            },
            None,
        ),
        ({}, None),
    ],
)
def test_targets_have_narrowed_when_every_informed_level_uses_a_fifth_of_its_prototypes(signs, said) -> None:
    found = narrowed(signs, 0.2)
    assert found is None if said is None else said in (found or "")


def test_a_spike_is_a_multiple_of_the_median() -> None:
    assert spiked(15.0, [10.0, 9.0, 100.0], 1.5) is None
    assert spiked(15.1, [10.0, 9.0, 100.0], 1.5) == "the loss is 15.1, more than 1.5 times its median of 10"
    assert spiked(1e9, [], 1.5) is None


def test_harm_is_more_than_a_margin_below_frozen() -> None:
    assert harmed(HEALTHY, "knn", 0.03) is None
    assert harmed(HEALTHY, "knn", 0.01) == "knn is 0.380, more than 0.01 below the frozen backbone's 0.400"


def test_nan_is_found_in_the_loss_and_in_the_features() -> None:
    assert not_finite(1.0, HEALTHY) is None
    assert not_finite(math.inf, {}) == "the loss is inf"
    assert "NaN" in (
        not_finite(None, {name: MetricPair(math.nan, sign.frozen) for name, sign in HEALTHY.items()}) or ""
    )
