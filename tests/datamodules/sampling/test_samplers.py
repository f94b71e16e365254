"""Who sees which sample: independent of the number of processes, and from any point of an epoch."""

from __future__ import annotations

import pytest

from datamodules.sampling.samplers import EpochSampler, EverySampleOnce


def batches(sampler: EpochSampler, size: int) -> list[list[tuple[int, int]]]:
    keys = list(sampler)
    return [keys[i : i + size] for i in range(0, len(keys), size)]


@pytest.mark.parametrize("size", [24, 29])
def test_two_ranks_with_batch_n_see_the_batches_of_one_with_2n(size: int) -> None:
    one = batches(EpochSampler(size, 8, seed=3, rank=0, ranks=1), 8)
    two = [batches(EpochSampler(size, 4, seed=3, rank=r, ranks=2), 4) for r in range(2)]
    assert len(one) == size // 8 and all(len(b) == 8 for b in one)
    for whole, left, right in zip(one, *two, strict=True):
        assert set(whole) == set(left) | set(right)


def test_an_epoch_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(20, 5, seed=seed, rank=0, ranks=1)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {e for e, _ in keys} == {epoch}
        return [i for _, i in keys]

    assert sorted(order(0, 0)) == list(range(20))
    assert order(0, 0) == order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_samples_consumed_say_where_to_go_on(ranks: int) -> None:
    for rank in range(ranks):
        whole = EpochSampler(26, 12 // ranks, rank=rank, ranks=ranks)
        whole.set_epoch(1)
        part = EpochSampler(26, 12 // ranks, consumed=lambda: 24 + 12, rank=rank, ranks=ranks)
        assert list(part) == list(whole)[12 // ranks :]
        assert len(part) == len(whole) == 24 // ranks  # an epoch stays as long as it is


def test_too_few_samples_for_the_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected at least 2 samples for each of 4 processes, found 7"):
        EpochSampler(7, 2, rank=0, ranks=4)


def test_evaluation_repeats_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in range(3):
        monkeypatch.setattr("datamodules.sampling.samplers.process", lambda rank=rank: (rank, 3))
        sampler = EverySampleOnce(10)
        assert len(list(sampler)) == len(sampler)
        seen += list(sampler)
    assert sorted(seen) == list(range(10))
