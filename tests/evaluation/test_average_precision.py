"""Average precision against scikit-learn's, and its resampled values against the exact ones."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from src.evaluation.average_precision import AveragePrecision, average_precision


def predictions(patches: int = 3000, classes: int = 4, seed: int = 0, levels: int | None = None):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.array([1.0, 0.5, 0.2, 0.02])[:classes], size=patches)  # the last class is rare
    scores = np.log(shares + 0.05) + rng.normal(size=shares.shape)
    if levels:  # many equal scores
        scores = np.round(scores * levels) / levels
    return torch.from_numpy(scores), torch.from_numpy(shares)


def reference(scores: np.ndarray, shares: np.ndarray) -> list[float]:
    truth = np.concatenate([np.ones(len(scores)), np.zeros(len(scores))])
    return [
        average_precision_score(truth, np.tile(score, 2), sample_weight=np.concatenate([share, 1 - share]))
        for score, share in zip(scores.T, shares.T, strict=True)
    ]


@pytest.mark.parametrize("levels", [None, 2])
def test_it_equals_scikit_learn_with_soft_labels_as_weights(levels: int | None) -> None:
    scores, shares = predictions(levels=levels)
    expected = reference(scores.numpy(), shares.numpy())
    np.testing.assert_allclose(average_precision(scores, shares).numpy(), expected, rtol=0, atol=1e-10)


def test_it_is_one_for_a_perfect_ranking_and_the_base_rate_for_none() -> None:
    shares = torch.eye(2)[torch.tensor([0, 0, 0, 1])]
    assert average_precision(shares, shares).tolist() == [1, 1]
    assert average_precision(torch.zeros(4, 2), shares).tolist() == [0.75, 0.25]


def test_an_absent_class_has_none_and_is_left_out_of_the_mean() -> None:
    scores, shares = predictions()
    shares = torch.cat((shares, torch.zeros_like(shares[:, :1])), dim=1)
    scores = torch.cat((scores, scores[:, :1]), dim=1)
    statistic = AveragePrecision(scores, shares, torch.arange(3000) % 10, 10)
    assert statistic.classes[-1].isnan()
    assert statistic.value() == pytest.approx(100 * np.mean(reference(scores[:, :4].numpy(), shares[:, :4].numpy())))


@pytest.mark.parametrize("levels", [None, 2])
def test_resampled_values_are_those_of_repeated_images_to_a_tenth_of_a_point(levels: int | None) -> None:
    scores, shares = predictions(patches=12_000, levels=levels)
    owners = torch.arange(12_000) // 600
    statistic = AveragePrecision(scores, shares, owners, 20)
    weights = np.random.default_rng(1).multinomial(20, np.full(20, 1 / 20), size=10)
    for weight, found in zip(weights, statistic.resampled(weights), strict=True):
        repeated = torch.from_numpy(np.repeat(np.arange(12_000), weight[owners.numpy()]))
        exact = 100 * float(average_precision(scores[repeated], shares[repeated]).mean())
        assert found == pytest.approx(exact, abs=0.35)
    spread = statistic.resampled(np.ones((1, 20), dtype=np.int64))[0] - statistic.value()
    assert abs(spread) < 0.35


def test_a_draw_without_a_class_leaves_it_out() -> None:
    shares = torch.eye(2)[torch.tensor([0, 0, 1, 0])]
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    statistic = AveragePrecision(scores, shares, torch.tensor([0, 0, 1, 1]), 2)
    assert statistic.resampled(np.array([[2, 0]]))[0] == pytest.approx(100)  # class 1 is in the second image only


def test_nothing_to_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to rank"):
        AveragePrecision(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 1)
