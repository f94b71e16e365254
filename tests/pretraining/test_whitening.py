"""Soft whitening against its definition, and what each setting does."""

import pytest
import torch

from src.pretraining.whitening import Moments, soft_whitening


def tokens(count: int = 200, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.1, 3, width, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    return (torch.randn(count, width, generator=generator, dtype=torch.float64) * spread) @ turned + 5


def whitening_of(rows: torch.Tensor, epsilon: float | None):
    moments = Moments(rows.shape[-1])
    for part in rows.split(37):
        moments.update(part)
    return soft_whitening(moments.mean, moments.covariance, epsilon)


def test_moments_are_those_of_all_batches_together():
    rows, moments = tokens(), Moments(6)
    for part in rows.split(48):
        moments.update(part.unflatten(0, (-1, 2)) if len(part) % 2 == 0 else part)
    assert torch.allclose(moments.mean, rows.mean(0))
    assert torch.allclose(moments.covariance, rows.T.cov(correction=0))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
def test_each_principal_direction_is_divided_by_its_deviation_plus_epsilon_times_the_largest(epsilon):
    rows = tokens()
    mean = sum(rows) / len(rows)
    covariance = sum(torch.outer(row - mean, row - mean) for row in rows) / len(rows)
    variances, vectors = torch.linalg.eigh(covariance)
    largest = max(float(v) for v in variances) ** 0.5
    white = whitening_of(rows, epsilon)(rows[:5].float()).double()
    for row, found in zip(rows[:5], white, strict=True):
        expected = torch.zeros(6, dtype=torch.float64)
        for i in range(6):
            along = float((row - mean) @ vectors[:, i]) / (float(variances[i]) ** 0.5 + epsilon * largest)
            expected += along * vectors[:, i]
        assert torch.allclose(found, expected, atol=1e-4)


def test_without_epsilon_only_the_mean_goes_and_all_directions_are_scaled_alike():
    rows = tokens()
    white = whitening_of(rows, None)(rows.float())
    centred = (rows - rows.mean(0)).float()
    ratio = white / centred
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-2)
    assert white.square().mean().item() == pytest.approx(1, abs=1e-3)


def test_a_direction_in_which_nothing_varies_stays_finite():
    rows = tokens()
    rows[:, 2] = 7
    white = whitening_of(rows, 0.1)(rows.float())
    assert white.isfinite().all() and white[:, 2].abs().max() < 1e-3


def test_it_stays_float32_inside_autocast():
    rows = tokens()
    whitening = whitening_of(rows, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whitening(rows.float()), whitening(rows.float()).float())
        assert whitening(rows.bfloat16()).dtype == torch.float32
    assert whitening.double()(rows).dtype == torch.float64


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_an_epsilon_that_is_not_above_zero_is_refused(epsilon):
    with pytest.raises(ValueError, match="expected an epsilon above 0"):
        soft_whitening(torch.zeros(2), torch.eye(2), epsilon)


@pytest.mark.parametrize("covariance", [torch.zeros(2, 2), torch.full((2, 2), torch.nan)], ids=["zero", "nan"])
def test_tokens_that_do_not_vary_are_refused(covariance):
    with pytest.raises((ValueError, torch.linalg.LinAlgError)):
        soft_whitening(torch.zeros(2), covariance)
