"""Effective rank where it is known."""

import math

import pytest
import torch

from src.evaluation.rank import effective_rank


def test_equal_orthogonal_directions_give_their_number() -> None:
    assert effective_rank(torch.eye(8).repeat(3, 1)) == pytest.approx(8, abs=1e-3)


def test_collapse_gives_one() -> None:
    assert effective_rank(torch.ones(50, 8)) == pytest.approx(1, abs=1e-3)


def test_two_unequal_directions_give_the_entropy_of_their_shares() -> None:
    features = torch.zeros(2, 4)
    features[0, 0], features[1, 1] = 3.0, 1.0
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(features, epsilon=1e-12) == pytest.approx(expected, rel=1e-6)


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        effective_rank(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="shape"):
        effective_rank(torch.zeros(0, 4))
