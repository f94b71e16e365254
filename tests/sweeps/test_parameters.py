"""Every distribution of wandb's format: the right values, the right chances, the same from the same seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats

from src.sweeps.parameters import parameter, quantised

optuna.logging.set_verbosity(optuna.logging.ERROR)
DRAWS = 600


def drawn(content: dict[str, Any], count: int = DRAWS) -> list[Any]:
    found = parameter("x", content)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    return [found.draw(study.ask(), "x") for _ in range(count)]


@pytest.mark.parametrize(
    ("content", "distribution"),
    [
        ({"min": 0.5, "max": 2.0}, stats.uniform(0.5, 1.5)),
        ({"min": 0, "max": 2.0}, stats.uniform(0, 2)),
        ({"distribution": "uniform", "min": 0, "max": 2}, stats.uniform(0, 2)),
        ({"distribution": "log_uniform", "min": -2, "max": 1}, stats.loguniform(math.exp(-2), math.exp(1))),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}, stats.loguniform(1e-4, 1e-2)),
        ({"distribution": "inv_log_uniform", "min": 1, "max": 3}, stats.loguniform(math.exp(-3), math.exp(-1))),
        ({"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 1e-2}, stats.loguniform(1e-4, 1e-2)),
        ({"distribution": "normal"}, stats.norm(0, 1)),
        ({"distribution": "normal", "mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
        ({"distribution": "log_normal", "mu": 1, "sigma": 0.5}, stats.lognorm(0.5, scale=math.e)),
        ({"distribution": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",  # a distribution prints its address
)
def test_continuous_ones_have_their_distribution(content: dict[str, Any], distribution: Any) -> None:
    assert stats.kstest(drawn(content), distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("content", "chances"),
    [
        ({"value": None}, {None: 1.0}),
        ({"values": ["poly", True, None, 3]}, {"poly": 0.25, True: 0.25, None: 0.25, 3: 0.25}),
        ({"values": ["a", "b", "c"], "probabilities": [0.7, 0.3, 0.0]}, {"a": 0.7, "b": 0.3}),
        ({"min": 1, "max": 4}, dict.fromkeys([1, 2, 3, 4], 0.25)),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.5}, {0.0: 0.25, 0.5: 0.5, 1.0: 0.25}),
        ({"distribution": "q_uniform", "min": 0, "max": 4, "q": 2}, {0: 0.25, 2: 0.5, 4: 0.25}),
        ({"distribution": "q_beta", "q": 0.5}, {0.0: 0.25, 0.5: 0.5, 1.0: 0.25}),
        (
            {"distribution": "q_log_uniform_values", "min": 1, "max": 4},
            {n: math.log((n + 0.5 if n < 4 else 4) / max(1, n - 0.5)) / math.log(4) for n in (1, 2, 3, 4)},
        ),
        (
            {"distribution": "q_log_uniform", "min": 0, "max": math.log(4)},
            {n: math.log((n + 0.5 if n < 4 else 4) / max(1, n - 0.5)) / math.log(4) for n in (1, 2, 3, 4)},
        ),
        (
            {"distribution": "q_normal", "sigma": 0.3},
            {n: stats.norm.cdf((n + 0.5) / 0.3) - stats.norm.cdf((n - 0.5) / 0.3) for n in (-1, 0, 1)},
        ),
        (
            {"distribution": "q_log_normal", "sigma": 0.5},
            {n: stats.lognorm(0.5).cdf(n + 0.5) - stats.lognorm(0.5).cdf(n - 0.5) for n in range(6)},
        ),
    ],
    ids=str,
)
def test_discrete_ones_have_their_chances(content: dict[str, Any], chances: dict[Any, float]) -> None:
    values = drawn(content)
    assert set(map(repr, values)) <= set(map(repr, chances))  # repr: 1 is no True, and 2 no 2.0
    for value, chance in chances.items():
        found = sum(repr(one) == repr(value) for one in values) / DRAWS
        assert abs(found - chance) <= 4 * math.sqrt(chance * (1 - chance) / DRAWS) + 1e-9, value


def test_values_may_be_lists_and_mappings() -> None:
    values = [[2, 5], {"lr": 0.1}]
    assert all(value in values for value in drawn({"values": values}, 20))


def test_multiples_have_no_last_digits_of_binary_fractions() -> None:
    assert [quantised(value, 0.1) for value in (0.3, 0.7, 1.1)] == [0.3, 0.7, 1.1]
    assert np.allclose(quantised(7.4, 5), 5)
    assert isinstance(quantised(7.4, 5), int)


@pytest.mark.parametrize(
    ("content", "grid"),
    [
        ({"value": 3}, []),
        ({"values": [None, "a"]}, ["null", '"a"']),
        ({"min": 2, "max": 4}, [2, 3, 4]),
        ({"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.5}, [0.0, 0.5, 1.0]),
        ({"min": 0.0, "max": 1.0}, None),
        ({"distribution": "normal"}, None),
    ],
)
def test_what_a_grid_goes_through(content: dict[str, Any], grid: list[Any] | None) -> None:
    assert parameter("x", content).grid() == grid


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"min": 1}, "no value, values, or min and max"),
        ({"distribution": "log_uniform_value", "min": 1, "max": 2}, "did you mean 'log_uniform_values'"),
        ({"distribution": "normal", "min": 1, "max": 2}, "normal has no max, min; its keys are mu, sigma"),
        ({"distribution": "q_uniform", "min": 1}, "q_uniform lacks max"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min should be above 0"),
        ({"min": 3, "max": 1}, "min should be at most max"),
        ({"values": []}, "a list with something in it"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "sum to 1"),
        ({"distribution": "normal", "sigma": -1}, "sigma, a and b should be above 0"),
        ({"distribution": "q_normal", "q": 0}, "q should be above 0"),
        ({"min": "a", "max": 2}, "uniform with"),
    ],
)
def test_what_is_wrong_is_said(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^parameter lr: ") as error:
        parameter("lr", content)
    assert message in str(error.value)
