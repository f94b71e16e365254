"""Keyed draws: functions of (seed, epoch, sample, purpose) and nothing else."""

import torch
from scipy import stats

from src.core.keyed_random import KeyedRandom


def draws(seed: int = 0, epochs: tuple[int, ...] = (0, 0, 0), indices: tuple[int, ...] = (3, 7, 11)) -> KeyedRandom:
    return KeyedRandom(seed, torch.tensor(epochs), torch.tensor(indices))


def test_a_sample_draws_the_same_numbers_in_any_batch_at_any_position():
    whole = draws().uniform("crop", 4, 5)
    alone = draws(epochs=(0,), indices=(7,)).uniform("crop", 4, 5)
    assert torch.equal(whole[1], alone[0])


def test_seed_epoch_sample_and_purpose_each_change_every_number():
    base = draws().uniform("crop", 100)
    for other in (
        draws(seed=1).uniform("crop", 100),
        draws(epochs=(1, 1, 1)).uniform("crop", 100),
        draws(indices=(4, 8, 12)).uniform("crop", 100),
        draws().uniform("blur", 100),
    ):
        assert (base != other).all()
        assert abs(torch.corrcoef(torch.stack((base.flatten(), other.flatten())))[0, 1]) < 0.2


def test_uniform_and_normal_follow_their_distributions():
    numbers = draws(seed=5).uniform("a", 20_000).numpy()
    normals = draws(seed=5).normal("a", 20_000).numpy()
    for sample in range(3):
        assert stats.kstest(numbers[sample], "uniform").pvalue > 1e-3
        assert stats.kstest(normals[sample], "norm").pvalue > 1e-3


def test_integers_reach_every_value_and_no_other():
    values = draws().integers("i", 5, 2000)
    assert sorted(set(values.flatten().tolist())) == [0, 1, 2, 3, 4]


def test_choice_follows_the_weights_and_never_takes_a_zero():
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 6.0, 0.0]).expand(1, 10_000, 6)
    counts = torch.bincount(draws(epochs=(0,), indices=(0,)).choice("c", weights).flatten(), minlength=6)
    assert counts[[0, 3, 5]].sum() == 0
    assert stats.chisquare(counts[[1, 2, 4]].numpy(), [1000, 3000, 6000]).pvalue > 1e-3
