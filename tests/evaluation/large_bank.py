"""Run by test_dense_knn.py in a process of its own, whose peak memory it prints: a million patches, with many ties."""

from __future__ import annotations

import resource

import torch

from src.evaluation.dense_knn import DenseKNN

PATCHES, WIDTH, CLASSES, NEIGHBOURS = 1_000_000, 384, 8, 30


def main() -> None:
    """Votes for 64 queries; those of 4 against a stable sort of all similarities. Prints the peak in bytes."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.zeros(PATCHES, WIDTH)
    for block in bank.split(2**16):  # 256 entries of ±1/16: unit norm, and every dot product is exact in float32
        block[:, :256] = torch.randint(0, 2, (len(block), 256), generator=generator, dtype=torch.int8) / 8 - 1 / 16
    labels = torch.randint(0, CLASSES, (PATCHES,), generator=generator)
    fractions = torch.zeros(PATCHES, CLASSES).scatter_(1, labels[:, None], 1.0)
    queries = bank[torch.randint(0, PATCHES, (64,), generator=generator)]
    votes = DenseKNN(bank, fractions, NEIGHBOURS, temperature=0.07, chunk=2**22).votes(queries)
    for query, vote in zip(queries[:4], votes[:4], strict=True):
        similarity = bank @ query
        nearest = similarity.argsort(descending=True, stable=True)[:NEIGHBOURS]
        assert (similarity == similarity[nearest[-1]]).sum() > 1  # a tie across the cut, which the first patches win
        expected = (similarity[nearest] / 0.07).softmax(0) @ fractions[nearest]
        assert torch.allclose(vote, expected, rtol=0, atol=1e-6)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
