"""Schedules at their start, their turning points, their end and beyond."""

import math

import pytest

from src.core.schedules import auto_momentum, cosine, linear, planned_steps, warmup_cosine


@pytest.mark.parametrize("estimate", [math.inf, -1])
def test_a_fit_without_a_planned_end_is_refused(estimate: float) -> None:
    """Lightning says infinity for `max_epochs: -1`, and -1 for data without a length."""
    with pytest.raises(ValueError, match="set max_steps or max_epochs to 1 or more"):
        planned_steps(estimate)
    assert planned_steps(440.0) == 440


@pytest.mark.parametrize(("step", "value"), [(0, 0.04), (15, 0.055), (30, 0.07), (31, 0.07), (1000, 0.07)])
def test_linear(step, value):
    assert linear(step, 30, 0.04, 0.07) == pytest.approx(value)


@pytest.mark.parametrize(
    ("step", "value"), [(0, 0.996), (25, 0.996 + 0.004 * 0.5 * (1 - 2**-0.5)), (50, 0.998), (100, 1.0), (150, 1.0)]
)
def test_cosine(step, value):
    assert cosine(step, 100, 0.996, 1.0) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "value"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.505), (100, 0.01), (120, 0.01)]
)
def test_warmup_cosine(step, value):
    assert warmup_cosine(step, 100, 10, 1.0, 0.01) == pytest.approx(value)


def test_warmup_cosine_without_warmup_starts_at_the_peak():
    assert warmup_cosine(0, 100, 0, 0.3, 0.0) == pytest.approx(0.3)


@pytest.mark.parametrize(("steps", "value"), [(440, 1 - 1 / 22), (24, 1 - 1 / 1.2), (100_000, 0.996), (1, 0.0)])
def test_the_teachers_memory_spans_at_most_a_twentieth_of_the_run(steps, value):
    momentum = auto_momentum(steps)
    assert momentum == pytest.approx(value)
    assert 1 / (1 - momentum) <= max(1.0, 0.05 * steps) + 1e-9


def test_auto_momentum_obeys_ceiling_and_share():
    assert auto_momentum(10**6, ceiling=0.9) == 0.9
    assert auto_momentum(1000, share=0.01) == pytest.approx(0.9)
