"""The second class token's target is half the patches' mean score, half the class token's."""

import pytest
import torch

from src.backbones.features import Features
from src.pretraining.network import NetworkOutput
from src.pretraining.patch_augmentation import Blur
from src.pretraining.targets import SinkhornKnopp
from src.pretraining.udi import SecondClassConsistency, stratified
from tests.tiny import random_crops, random_of, tiny_head

V, B, GRID, D, K = 2, 3, (5, 7), 12, 16


def branch(seed: int, temperature: float) -> NetworkOutput:
    torch.manual_seed(seed)
    features = Features(torch.randn(V, B, D), torch.randn(V, B, 2, D), torch.randn(V, B, 35, D), None, GRID)
    return NetworkOutput(features, None, tiny_head(K)(D), None, temperature)


def test_every_stratum_gives_one_patch_and_every_patch_of_it_is_drawn():
    crops = random_crops(64)
    chosen = stratified(2, GRID, 3, random_of(crops))  # rows 0–1 and 2–4, columns 0–2 and 3–6
    assert chosen.shape == (3, 64, 4)
    rows, columns = chosen // 7, chosen % 7
    assert torch.equal(rows >= 2, torch.tensor([False, False, True, True]).expand_as(rows))
    assert torch.equal(columns >= 3, torch.tensor([False, True, False, True]).expand_as(columns))
    assert sorted(set(chosen[..., 0].flatten().tolist())) == [0, 1, 2, 7, 8, 9]
    assert sorted(set(chosen[..., 3].flatten().tolist())) == [7 * r + c for r in (2, 3, 4) for c in (3, 4, 5, 6)]


def test_the_loss_equals_a_loop_over_views_images_and_strata():
    crops = random_crops(B)
    random = random_of(crops)
    student, teacher = branch(1, 0.1), branch(2, 0.05)
    objective = SecondClassConsistency(strata=3)
    objective.build(K, D)
    chosen = stratified(3, GRID, V, random)
    losses = []
    for a, b in ((0, 1), (1, 0)):
        for i in range(B):
            patches = [teacher.head(teacher.features.patches[a, i, p]) for p in chosen[a, i].tolist()]
            target = ((sum(patches) / 9 / 2 + teacher.head(teacher.features.cls[a, i]) / 2) / 0.05).softmax(-1)
            scores = student.head(student.features.extra[b, i, 0])
            losses.append(-(target * (scores / 0.1).log_softmax(-1)).sum().item())
    term = objective(student, teacher, Blur(0.5)(crops, 8, random), random)
    assert term.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


@pytest.mark.parametrize("other", [{"strata": 2}, {"targets": SinkhornKnopp()}], ids=str)
def test_every_setting_has_an_effect(other):
    crops = random_crops(B)
    random = random_of(crops)
    values = []
    for options in ({}, other):
        objective = SecondClassConsistency(**options)
        objective.build(K, D)
        values.append(objective(branch(1, 0.1), branch(2, 0.05), Blur(0.5)(crops, 8, random), random).loss.item())
    assert values[0] != values[1]


def test_too_many_strata_are_refused():
    with pytest.raises(ValueError, match="5×7 patches"):
        stratified(6, GRID, V, random_of(random_crops(B)))
