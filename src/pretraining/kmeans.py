"""Spherical k-means (Dhillon and Modha 2001) with k-means++ seeding (Arthur and Vassilvitskii 2007), by cosine.

Shapes: n tokens · D width · K centroids.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom

ITERATIONS = 30  # most iterations; assignments of patch tokens hardly change after 20 (our choice)


@torch.no_grad()
def spherical_kmeans(tokens: Tensor, count: int, seed: int, iterations: int = ITERATIONS) -> Tensor:
    """Unit centroids that maximise the mean cosine of tokens to the nearest of them.

    Deterministic for a seed: sums are matrix products, not atomic additions. An empty cluster gets the token with the
    worst fit to its centroid.

    Args:
        tokens: `[n, D]` of any norm.
        count: K.
        seed: Seed of the first centroids.
        iterations: Iterations of assignment and mean, at most.

    Returns:
        `[K, D]`, float32, on the tokens' device.

    Raises:
        UserError: If there are fewer tokens than centroids.
    """
    if len(tokens) < count:
        raise UserError(f"k-means: expected at least {count} tokens, one per prototype, found {len(tokens)}")
    tokens = F.normalize(tokens.float(), dim=-1)
    centroids = tokens[_seeds(tokens, count, seed)]
    assigned = torch.full((len(tokens),), -1, device=tokens.device)
    for _ in range(iterations):
        cosines, nearest = (tokens @ centroids.T).max(dim=-1)  # [n]
        if torch.equal(nearest, assigned):
            break
        assigned = nearest
        members = F.one_hot(assigned, count).to(tokens.dtype)  # [n, K]
        centroids = F.normalize(members.T @ tokens, dim=-1)
        empty = members.sum(dim=0) == 0
        if empty.any():
            centroids[empty] = tokens[cosines.argsort(stable=True)[: int(empty.sum())]]
    return centroids


def _seeds(tokens: Tensor, count: int, seed: int) -> Tensor:
    """Indices of K tokens, each drawn with probability proportional to 1 − cosine to the nearest earlier one."""
    zero = torch.zeros(1, dtype=torch.int64, device=tokens.device)
    random = KeyedRandom(seed, zero, zero)
    distances = tokens.new_ones(len(tokens))
    chosen = []
    for place in range(count):
        if not distances.any():  # fewer different tokens than centroids
            distances = torch.ones_like(distances)
        index = random.choice(f"kmeans/{place}", distances[None])  # [1]
        chosen.append(index)
        distances = torch.minimum(distances, (1 - tokens @ tokens[index[0]]).clamp_min(0))
        distances[index] = 0
    return torch.cat(chosen)
