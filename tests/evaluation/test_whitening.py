"""Soft whitening against numpy's singular values, over any split into batches and ranks."""

import copy

import numpy as np
import pytest
import torch
from torch import distributed

from src.evaluation.whitening import Whitening, WhiteningStatistics


def tokens(patches: int = 400, width: int = 6, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(patches, width)) * np.geomspace(20, 0.05, width) @ rng.normal(size=(width, width))
    return torch.from_numpy(mixed + rng.normal(size=width) * 10).float()


def fitted(features: torch.Tensor, epsilon: float | None = 0.1, batches: int = 1) -> Whitening:
    statistics = WhiteningStatistics(features.shape[-1], epsilon)
    for part in features.tensor_split(batches):
        statistics.accumulate(part)
    return statistics.finish()


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("batches", [1, 7])
def test_it_equals_the_equation_by_singular_values(epsilon: float, batches: int) -> None:
    features = tokens()
    centred = features.double().numpy() - features.double().numpy().mean(0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    deviations = singular / np.sqrt(len(centred))
    expected = centred @ rows.T / (deviations + epsilon * deviations[0]) @ rows
    found = fitted(features, epsilon, batches)(features).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_without_epsilon_only_the_mean_goes_and_all_directions_are_scaled_alike() -> None:
    features = tokens()
    white = fitted(features, None)(features)
    ratio = white / (features - features.mean(0))
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-2, atol=0)
    assert white.square().mean().item() == pytest.approx(1, abs=1e-3)


def test_a_direction_in_which_nothing_varies_stays_finite() -> None:
    features = tokens()
    features[:, 2] = 7
    white = fitted(features)(features)
    assert white.isfinite().all() and white[:, 2].abs().max() < 1e-2


def test_whitened_tokens_are_uncorrelated_and_strong_directions_have_unit_deviation() -> None:
    features = tokens()
    whitened = fitted(features, 1e-9)(features).double()
    covariance = whitened.T @ whitened / len(whitened)
    torch.testing.assert_close(covariance, torch.eye(6, dtype=torch.float64), rtol=0, atol=2e-3)


def test_epsilon_keeps_weak_directions_weak() -> None:
    white = fitted(tokens())(tokens()).double()
    spread = torch.linalg.svdvals(white - white.mean(0)) / len(white) ** 0.5
    assert spread[0].item() == pytest.approx(1 / 1.1, rel=0.01)
    assert (spread.diff() < 0).all() and spread[-1] < 0.1


def test_maps_and_leading_axes_are_whitened_token_by_token() -> None:
    features = tokens()
    whitening = fitted(features)
    maps = features[:24].view(2, 3, 4, 6).movedim(-1, 1)  # [B, D, h, w]
    torch.testing.assert_close(whitening.map(maps).movedim(1, -1).reshape(24, 6), whitening(features[:24]))
    torch.testing.assert_close(whitening(features[:24].view(2, 12, 6)).view(24, 6), whitening(features[:24]))


def test_mixed_precision_does_not_reach_it() -> None:
    features = tokens()
    whitening = fitted(features)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = whitening(features)
    assert torch.equal(mixed, whitening(features))


def test_statistics_survive_a_copy_and_a_state_dict_and_are_nan_before() -> None:
    features = tokens()
    whitening, fresh = fitted(features), Whitening(6)
    assert fresh(features).isnan().all()
    fresh.load_state_dict(whitening.state_dict())
    for other in (fresh, copy.deepcopy(whitening)):
        assert torch.equal(other(features), whitening(features))


def test_two_ranks_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    features = tokens()
    both = [WhiteningStatistics(6), WhiteningStatistics(6)]
    for statistics, part in zip(both, features.split([100, 300]), strict=True):
        statistics.accumulate(part)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda values: values.add_(both[1]._sums))
    found = both[0].finish()
    monkeypatch.undo()
    torch.testing.assert_close(found.projection, fitted(features).projection, rtol=1e-5, atol=1e-6)


def test_nothing_to_whiten_is_refused() -> None:
    statistics = WhiteningStatistics(2)
    with pytest.raises(ValueError, match="at least 2 patch tokens, found 0"):
        statistics.finish()
    statistics.accumulate(torch.full((5, 2), 1.1))
    with pytest.raises(ValueError, match="all patch tokens are the same"):
        statistics.finish()
    with pytest.raises(ValueError, match="NaN"):
        statistics.accumulate(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(ValueError, match="epsilon above 0"):
        WhiteningStatistics(2, 0)
