"""Dense nearest neighbours against a brute-force numpy version."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from src.evaluation.dense_knn import DenseKNN, top_in_order
from tests.command_line import ROOT


def brute_force(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> np.ndarray:
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    votes = []
    for query in queries:
        similarity = bank @ query
        order = np.argsort(-similarity, kind="stable")[:k]  # equals in the order of the bank
        weights = np.exp(similarity[order] / temperature - similarity[order].max() / temperature)
        votes.append((weights / weights.sum()) @ labels[order])
    return np.stack(votes)


def tied_bank(patches: int, width: int = 4) -> np.ndarray:
    """One-hot features of either sign: cosines are exactly −1, 0 or 1, so almost everything is tied."""
    rng = np.random.default_rng(0)
    bank = np.zeros((patches, width))
    bank[np.arange(patches), rng.integers(width, size=patches)] = rng.choice([-1.0, 1.0], size=patches)
    return bank


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**24])
@pytest.mark.parametrize("k", [1, 5, 30, 100])
def test_votes_equal_brute_force_ties_included(k: int, chunk: int) -> None:
    rng = np.random.default_rng(1)
    bank = tied_bank(60)
    labels = rng.dirichlet(np.ones(3), size=60)
    queries = np.concatenate([tied_bank(9), np.eye(4)[[0, 0, 3]]])
    knn = DenseKNN(torch.from_numpy(bank), torch.from_numpy(labels), k, 0.07, chunk)
    votes = knn.votes(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(votes, brute_force(bank, labels, queries, min(k, 60), 0.07), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [50, 333, 2**24])
def test_votes_equal_brute_force_on_random_features(chunk: int) -> None:
    rng = np.random.default_rng(2)
    bank = rng.normal(size=(200, 16))
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    labels, queries = rng.dirichlet(np.ones(5), size=200), 3 * rng.normal(size=(40, 16))
    knn = DenseKNN(torch.from_numpy(bank), torch.from_numpy(labels), 30, 0.07, chunk)
    votes = knn.votes(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(votes, brute_force(bank, labels, queries, 30, 0.07), rtol=0, atol=1e-12)


def test_more_neighbours_than_a_block_holds_are_found_across_blocks() -> None:
    bank = torch.eye(5, dtype=torch.float64)
    knn = DenseKNN(bank, torch.eye(5, dtype=torch.float64), neighbours=4, temperature=1.0, chunk=2)
    votes = knn.votes(torch.tensor([[1.0, 0.5, 0.4, 0.3, 0.2]], dtype=torch.float64))
    assert votes[0, 4] == 0 and (votes[0, :4] > 0).all()


def test_top_in_order_takes_the_first_of_equals() -> None:
    values, index = top_in_order(torch.tensor([[0.0, 2, 1, 1, 2, 1, 1]]), 4)
    assert values.tolist() == [[2, 2, 1, 1]]
    assert index.tolist() == [[1, 4, 2, 3]]


def test_a_lower_temperature_trusts_the_nearest_more() -> None:
    bank, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    query = torch.tensor([[2.0, 0.0]])
    shares = [DenseKNN(bank, labels, 2, temperature).votes(query)[0, 0].item() for temperature in (1.0, 0.1)]
    assert shares == pytest.approx([1 / (1 + np.exp(-0.4)), 1 / (1 + np.exp(-4.0))])


def test_an_empty_bank_or_a_bad_number_is_refused() -> None:
    with pytest.raises(ValueError, match="bank of 0 features"):
        DenseKNN(torch.zeros(0, 2), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="neighbours 0"):
        DenseKNN(torch.eye(2), torch.eye(2), neighbours=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak memory is in kilobytes on Linux alone")
def test_a_million_patches_of_width_384_stay_within_6_gb_ties_included() -> None:
    command = [sys.executable, "-m", "tests.evaluation.large_bank"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) < 6e9
