"""Centring and Sinkhorn–Knopp against their definitions."""

import pytest
import torch

from src.pretraining.targets import Centring, SinkhornKnopp, TokenMean, Uncentred


def test_centring_subtracts_the_centre_and_then_moves_it_by_the_batch_mean():
    targets = Centring(momentum=0.9)
    targets.build(5)
    first, second = torch.randn(2, 3, 5), torch.randn(4, 5)
    assert torch.allclose(targets(first, 0.05), (first / 0.05).softmax(-1))
    centre = 0.1 * first.flatten(0, 1).mean(0)
    assert torch.allclose(targets.centre, centre, atol=1e-7)
    assert torch.allclose(targets(second, 0.05), ((second - centre) / 0.05).softmax(-1), atol=1e-6)
    assert torch.allclose(targets.centre, 0.9 * centre + 0.1 * second.mean(0), atol=1e-7)


def test_uncentred_targets_are_plain_softmaxes_and_keep_no_state():
    targets, scores = Uncentred(), torch.randn(2, 3, 5)
    targets.build(5)
    for _ in range(2):
        assert torch.equal(targets(scores, 0.05), (scores / 0.05).softmax(-1))
    assert torch.equal(Uncentred(temperature=0.2)(scores, 0.05), (scores / 0.2).softmax(-1))
    assert not targets.state_dict()


def test_the_momentum_of_the_centre_has_an_effect():
    centres = []
    for momentum in (0.5, 0.9):
        targets = Centring(momentum)
        targets.build(3)
        targets(torch.ones(2, 3), 1.0)
        centres.append(targets.centre[0].item())
    assert centres == pytest.approx([0.5, 0.1])


def test_sinkhorn_equals_the_alternating_normalisation_written_as_loops():
    scores = torch.randn(6, 4, dtype=torch.float64)
    weights = [[float(torch.exp(scores[i, k] / 0.5)) for k in range(4)] for i in range(6)]
    for _ in range(3):
        columns = [sum(row[k] for row in weights) for k in range(4)]
        weights = [[row[k] / columns[k] for k in range(4)] for row in weights]
        weights = [[value / sum(row) for value in row] for row in weights]
    assert torch.allclose(
        SinkhornKnopp(3)(scores.view(2, 3, 4), 0.5).view(6, 4), torch.tensor(weights, dtype=torch.float64)
    )


def test_sinkhorn_uses_all_prototypes_equally_when_it_iterates_enough():
    scores = torch.randn(64, 8) + torch.linspace(0, 3, 8)  # prototypes of very different popularity
    usage = [SinkhornKnopp(iterations)(scores, 0.3).mean(0) for iterations in (1, 30)]
    assert (usage[1] - 1 / 8).abs().max() < 0.005 < (usage[0] - 1 / 8).abs().max()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(Uncentred, {"temperature": 0.0}), (Centring, {"momentum": 1.1}), (SinkhornKnopp, {"iterations": 0})],
)
def test_settings_that_give_no_distribution_are_refused(kind, wrong):
    with pytest.raises(ValueError, match=f"targets.{next(iter(wrong))}: expected"):
        kind(**wrong)


def test_targets_carry_no_gradient():
    scores = torch.randn(3, 4, requires_grad=True)
    centring = Centring()
    centring.build(4)
    assert not centring(scores, 0.1).requires_grad and not SinkhornKnopp()(scores, 0.1).requires_grad


@pytest.mark.parametrize("kind", [Centring, SinkhornKnopp])
def test_a_level_with_a_temperature_of_its_own_ignores_the_schedules(kind):
    scores = torch.randn(6, 4)
    outcomes = []
    for own, schedule in ((0.2, 0.9), (None, 0.2), (None, 0.9)):
        targets = kind(temperature=own)
        targets.build(4)
        outcomes.append(targets(scores, schedule))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])


def test_the_mean_token_is_a_weighted_mean_of_the_batches_without_a_start_at_zero():
    mean, (first, second) = TokenMean(3, momentum=0.9), torch.randn(2, 2, 4, 3)
    assert torch.allclose(mean(first), first.flatten(0, 1).mean(0), atol=1e-6)
    expected = (0.9 * first.flatten(0, 1).mean(0) + second.flatten(0, 1).mean(0)) / 1.9
    assert torch.allclose(mean(second), expected, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_sinkhorn_stays_finite_for_scores_of_any_size(shift):
    torch.manual_seed(0)
    scores = 5 * (2 * torch.rand(24, 16) - 1)  # prototypes of norm 5, as published heads have them
    targets = SinkhornKnopp()((scores + shift).float(), 0.04)
    exact = SinkhornKnopp()(scores.double(), 0.04)
    assert torch.isfinite(targets).all()
    torch.testing.assert_close(targets.sum(-1), torch.ones(24))
    torch.testing.assert_close(targets.double(), exact, rtol=0, atol=1e-5 if shift == 0 else 2e-3)
