"""Spherical k-means against a loop, its determinism, and clusters that lose their tokens."""

import math

import pytest
import torch
from torch.nn import functional as F

from src.pretraining import kmeans
from src.pretraining.kmeans import spherical_kmeans


def planted(clusters: int = 5, each: int = 40, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of any norm about orthogonal directions, shuffled, and those directions."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.eye(width)[:clusters]
    rows = directions.repeat_interleave(each, 0) + 0.02 * torch.randn(clusters * each, width, generator=generator)
    rows *= 0.2 + 3 * torch.rand(len(rows), 1, generator=generator)
    return rows[torch.randperm(len(rows), generator=generator)], directions


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_it_equals_assignments_and_means_written_as_loops(iterations):
    tokens = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in tokens.tolist()]
    centroids = spherical_kmeans(tokens, 7, seed=3, iterations=0).tolist()
    for _ in range(iterations):
        members = [[] for _ in centroids]
        for row in rows:
            cosines = [sum(a * b for a, b in zip(row, centroid, strict=True)) for centroid in centroids]
            members[cosines.index(max(cosines))].append(row)
        sums = [[sum(column) for column in zip(*part, strict=True)] for part in members]
        centroids = [[x / math.sqrt(sum(y * y for y in total)) for x in total] for total in sums]
    found = spherical_kmeans(tokens, 7, seed=3, iterations=iterations)
    assert torch.allclose(found, torch.tensor(centroids), atol=1e-5)
    assert torch.allclose(found.norm(dim=-1), torch.ones(7), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_planted_directions_are_found_whatever_the_seed(seed):
    tokens, directions = planted()
    cosines = directions @ spherical_kmeans(tokens, 5, seed).T
    assert (cosines.max(dim=1).values > 0.99).all() and len(set(cosines.argmax(dim=1).tolist())) == 5


def test_a_seed_fixes_the_result_and_another_gives_another():
    tokens = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(spherical_kmeans(tokens, 9, 1), spherical_kmeans(tokens, 9, 1))
    assert not torch.allclose(spherical_kmeans(tokens, 9, 1), spherical_kmeans(tokens, 9, 2), atol=1e-2)


def test_a_cluster_that_loses_its_tokens_takes_the_worst_fitting_one(monkeypatch):
    tokens, directions = planted(clusters=3)
    monkeypatch.setattr(kmeans, "_seeds", lambda tokens, count, seed: torch.zeros(count, dtype=torch.int64))
    cosines = directions @ spherical_kmeans(tokens, 3, 0).T  # three times the same seed: two clusters are empty
    assert (cosines.max(dim=1).values > 0.99).all()


def test_first_centroids_are_different_tokens_as_long_as_there_are_any():
    tokens = F.normalize(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert sorted(kmeans._seeds(tokens, 20, 0).tolist()) == list(range(20))
    few = tokens[:2].repeat(10, 1)
    assert spherical_kmeans(few, 5, 0).isfinite().all()


def test_fewer_tokens_than_centroids_are_refused():
    with pytest.raises(ValueError, match="at least 4 tokens, one per prototype, found 3"):
        spherical_kmeans(torch.randn(3, 2), 4, 0)
