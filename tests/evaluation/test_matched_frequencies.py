"""Biases that give predictions the labels' frequencies."""

import numpy as np
import pytest
import torch

from src.evaluation.matched_frequencies import match_frequencies


def skewed(patches: int = 20_000, seed: int = 0, scale: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that all but never prefer the rare classes, and soft labels."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([2, 1, 0.3, 0.02, 0.005], size=patches)
    logits = scale * (shares + 0.3 * rng.normal(size=shares.shape)) + scale / 4 * np.array([3.0, 1, 0, -2, -5])
    return torch.from_numpy(logits).float(), torch.from_numpy(shares).float()


@pytest.mark.parametrize("scale", [0.01, 4.0, 100.0])
def test_predicted_frequencies_are_those_of_the_labels(scale: float) -> None:
    logits, shares = skewed(scale=scale)
    found = match_frequencies(logits, shares)
    predicted = (logits + found.biases).argmax(1).bincount(minlength=5) / len(logits)
    np.testing.assert_allclose(predicted, shares.mean(0), rtol=0, atol=5e-4)
    assert found.deviation == pytest.approx(float((predicted - shares.mean(0)).abs().max()), abs=1e-6)
    plain = logits.argmax(1).bincount(minlength=5) / len(logits)
    assert found.deviation < float((plain - shares.mean(0)).abs().max()) / 10
    assert float(found.biases.mean()) == pytest.approx(0, abs=1e-5)


def test_two_classes_are_parted_at_the_quantile() -> None:
    margin = torch.linspace(-1, 3, 1001).double()
    logits = torch.stack((margin, torch.zeros_like(margin)), dim=1)
    shares = torch.tensor([[0.25, 0.75]]).double().expand(1001, 2)
    biases = match_frequencies(logits, shares).biases
    assert float(biases[1] - biases[0]) == pytest.approx(2.0, abs=0.01)  # three quarters of the margins lie below 2


def test_a_class_that_does_not_occur_is_never_predicted() -> None:
    logits, shares = skewed()
    logits = torch.cat((logits, torch.full((len(logits), 1), 9.0)), dim=1)  # it would win everywhere
    found = match_frequencies(logits, torch.cat((shares, torch.zeros(len(shares), 1)), dim=1))
    assert (logits + found.biases).argmax(1).max() < 5 and found.deviation < 5e-4
    assert bool(found.biases.isfinite().all())


def test_what_matches_already_needs_no_bias() -> None:
    logits = torch.eye(3).repeat(10, 1) * 5
    found = match_frequencies(logits, torch.eye(3).repeat(10, 1))
    assert found.deviation < 1e-7 and found.biases.abs().max() < 1


def test_nothing_to_match_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one patch"):
        match_frequencies(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 2\]"):
        match_frequencies(torch.zeros(2, 3), torch.zeros(2, 2))
