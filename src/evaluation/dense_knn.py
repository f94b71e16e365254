"""Dense nearest-neighbour segmentation: each patch gets the labels of the most similar training patches.

The evaluation of in-context scene understanding (Balažević et al. 2023, arXiv 2306.01667), without any training.

Shapes: M patches in the bank · Q queried patches · D width · C classes · k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core.errors import UserError

_BLOCK = 2**16  # most bank patches per matrix product: large enough for speed at any size of the bank


class DenseKNN:
    """Votes of the k most similar patches of a bank.

    Similarity is the cosine. The k neighbours vote with their label fractions, weighted by the softmax of
    similarity / temperature over the k. Of equally similar patches the first one in the bank is nearer.

    Args:
        features: Bank, `[M, D]`, L2-normalised.
        fractions: Soft labels of the bank, `[M, C]`.
        neighbours: k; the whole bank if it is smaller.
        temperature: Temperature of the votes; 0.07 is our choice; published evaluations use 0.02 to 0.1.
        chunk: Similarities held at a time, which bounds the memory: 2^24 are 64 MB in float32, a few times that while
            the nearest are picked.

    Raises:
        UserError: If the bank is empty, or k, the temperature or the chunk is not positive.
    """

    def __init__(
        self, features: Tensor, fractions: Tensor, neighbours: int = 30, temperature: float = 0.07, chunk: int = 2**24
    ) -> None:
        if not len(features) or len(features) != len(fractions):
            raise UserError(f"DenseKNN: a bank of {len(features)} features and {len(fractions)} labels")
        if neighbours < 1 or temperature <= 0 or chunk < 1:
            raise UserError(
                f"DenseKNN: neighbours {neighbours}, temperature {temperature}, chunk {chunk}; all must be positive"
            )
        self.features = features
        self.fractions = fractions
        self.neighbours = min(neighbours, len(features))
        self.temperature = temperature
        self.chunk = chunk

    def votes(self, queries: Tensor) -> Tensor:
        """Class shares `[Q, C]` of patches `[Q, D]`, which need not be normalised; each row sums to 1."""
        # bfloat16 would give most neighbours the same similarity
        with torch.autocast(queries.device.type, enabled=False):
            block = min(len(self.features), _BLOCK, self.chunk)
            normalised = F.normalize(queries.to(self.features.dtype), dim=-1)
            parts = normalised.split(max(1, self.chunk // block))
            return torch.cat([self._votes(part, block) for part in parts])

    def _votes(self, queries: Tensor, block: int) -> Tensor:
        similarity, index = self._nearest(queries, block)  # [q, k]
        weights = (similarity / self.temperature).softmax(dim=-1)
        return torch.einsum("qk,qkc->qc", weights, self.fractions[index])

    def _nearest(self, queries: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Similarity and bank index `[q, k]` of the nearest, sorted by similarity, then by index."""
        best = queries.new_empty(len(queries), 0)
        index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(self.features), block):
            similarity = queries @ self.features[start : start + block].T  # [q, block]
            values, places = top_in_order(similarity, self.neighbours)
            # earlier blocks hold lower indices and come first: a stable sort keeps the order of equals
            best, index = torch.cat((best, values), dim=1), torch.cat((index, places + start), dim=1)
            best, order = best.sort(dim=1, descending=True, stable=True)
            best, index = best[:, : self.neighbours], index.gather(1, order)[:, : self.neighbours]
        return best, index


def top_in_order(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their positions, equals in order of position (`torch.topk` promises no order).

    Args:
        scores: `[rows, n]`.
        k: Number of entries; all if n is smaller.
    """
    n = scores.shape[1]
    values, index = scores.topk(min(k + 1, n), dim=1)
    k = min(k, n)
    if n > k:  # a tie at the cut: topk may have kept any of the equals
        tied = (values[:, k - 1] == values[:, k]).nonzero().flatten()
        values, index = values[:, :k], index[:, :k].clone()
        if len(tied):
            rows, cut = scores[tied], values[tied, -1:]
            above, equal = rows > cut, rows == cut
            chosen = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
            index[tied] = chosen.nonzero()[:, 1].view(-1, k)
            values = scores.gather(1, index)
    index, _ = index.sort(dim=1)
    values, order = scores.gather(1, index).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)
