"""Each level equals a naive loop written from the method's equations (sections 4 to 7), to 1e-5."""

import math

import pytest
import torch

from datamodules.views import Batch
from src.backbones.features import Features
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.network import NetworkOutput
from src.pretraining.patch_augmentation import Blur
from src.pretraining.regions import Grid, RegionalAttention, Uniform
from src.pretraining.targets import Centring, SinkhornKnopp
from tests.tiny import random_crops, random_of, tiny_head

V, B, N, D, K, GRID = 2, 3, 16, 12, 16, (4, 4)
STUDENT, TEACHER = 0.1, 0.05


def branch(seed: int, temperature: float, local: int = 0, context: bool = True) -> NetworkOutput:
    torch.manual_seed(seed)
    attention = torch.rand(V, B, 2, N).softmax(-1)
    features = Features(torch.randn(V, B, D), torch.zeros(V, B, 0, D), torch.randn(V, B, N, D), attention, GRID)
    head, regional = tiny_head(K)(D).double(), RegionalAttention(D, noise=0.3).double() if context else None
    features = Features(*(part.double() for part in features[:4]), GRID)
    return NetworkOutput(features, torch.randn(local, B, D).double() if local else None, head, regional, temperature)


@pytest.fixture
def setting():
    crops = random_crops(B, side=32, seed=3)
    random = random_of(crops)
    batch = Blur(0.5)(crops, 8, random)
    return branch(1, STUDENT), branch(2, TEACHER), batch, random


def built(objective):
    objective.build(K, D)
    objective.double()
    return objective


def cross_entropy(target: torch.Tensor, scores: torch.Tensor) -> float:
    """−Σ p_t log p_s, one prototype at a time."""
    exponentials = [math.exp(score / STUDENT) for score in scores.tolist()]
    return -sum(p * math.log(e / sum(exponentials)) for p, e in zip(target.tolist(), exponentials, strict=True))


def target_of(scores: torch.Tensor, centre: torch.Tensor | float = 0.0) -> torch.Tensor:
    return ((scores - centre) / TEACHER).softmax(-1)


def test_global_loss_is_the_mean_over_ordered_pairs_of_views(setting):
    student, teacher, batch, random = setting
    losses = []
    for a in range(V):
        for b in range(V):
            for i in range(B):
                if a != b:
                    target = target_of(teacher.head(teacher.features.cls[a, i]))
                    losses.append(cross_entropy(target, student.head(student.features.cls[b, i])))
    term = built(GlobalConsistency())(student, teacher, batch, random)
    assert term.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_local_views_are_students_of_both_global_ones(setting):
    _, teacher, batch, random = setting
    student = branch(1, STUDENT, local=2)
    losses = []
    for a in range(V):
        for b in range(V + 2):
            for i in range(B):
                if a != b:
                    token = student.features.cls[b, i] if b < V else student.local_cls[b - V, i]
                    losses.append(
                        cross_entropy(target_of(teacher.head(teacher.features.cls[a, i])), student.head(token))
                    )
    term = built(GlobalConsistency())(student, teacher, batch, random)
    assert term.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_centred_class_tokens_lose_the_teachers_mean_on_both_sides(setting):
    student, teacher, batch, random = setting
    mean = teacher.features.cls.flatten(0, 1).mean(0)  # of the first batch: the average has no other start
    losses = []
    for a in range(V):
        for b in range(V):
            for i in range(B):
                if a != b:
                    target = target_of(teacher.head(teacher.features.cls[a, i] - mean))
                    losses.append(cross_entropy(target, student.head(student.features.cls[b, i] - mean)))
    term = built(GlobalConsistency(centre_tokens=True))(student, teacher, batch, random)
    assert term.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def naive_context(context: RegionalAttention, region: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Eq. 6, one patch at a time."""
    query = context.query.weight @ region
    scores = [float(query @ (context.key.weight @ z)) / math.sqrt(D) for z in patches]
    exponentials = [math.exp(score) for score in scores]
    return sum(e / sum(exponentials) * (context.value.weight @ z) for e, z in zip(exponentials, patches, strict=True))


def test_regional_loss_asks_the_same_region_in_the_other_view(setting):
    student, teacher, batch, random = setting
    objective = built(RegionalConsistency(regions=Uniform(3, (2, 3))))
    masks = objective.regions(teacher.features.attention, GRID, random)
    losses = []
    for a in range(V):
        for i in range(B):
            for r in range(3):
                members = [teacher.features.patches[a, i, n] for n in range(N) if masks[a, i, r, n]]
                region = sum(members) / len(members)
                target = target_of(teacher.head(naive_context(teacher.context, region, teacher.features.patches[a, i])))
                meaning = naive_context(student.context, region, student.features.patches[1 - a, i])
                losses.append(cross_entropy(target, student.head(meaning)))
    assert objective(student, teacher, batch, random).loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def box_point(batch: Batch, view: int, i: int, patch: int) -> tuple[float, float]:
    """Image coordinates of a patch's centre, by hand."""
    y0, x0, y1, x1 = (float(edge) for edge in batch.clean.boxes[view, i])
    u, v = (patch // 4 + 0.5) / 4, (patch % 4 + 0.5) / 4
    if batch.clean.flips[view, i]:
        v = 1 - v
    return y0 + u * (y1 - y0), x0 + v * (x1 - x0)


def prediction_at(targets: torch.Tensor, batch: Batch, view: int, i: int, y: float, x: float) -> torch.Tensor | None:
    """The teacher's prediction at an image point, bilinear between patches; None outside the view."""
    y0, x0, y1, x1 = (float(edge) for edge in batch.clean.boxes[view, i])
    u, v = (y - y0) / (y1 - y0), (x - x0) / (x1 - x0)
    if not (0 <= u <= 1 and 0 <= v <= 1):
        return None
    if batch.clean.flips[view, i]:
        v = 1 - v
    row, column = min(max(4 * u - 0.5, 0), 3), min(max(4 * v - 0.5, 0), 3)
    result = torch.zeros(K, dtype=torch.float64)
    for r in range(4):
        for c in range(4):
            result += max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c)) * targets[view, i, 4 * r + c]
    return result


@pytest.mark.parametrize("distorted_only", [False, True])
def test_local_loss_is_the_mean_of_same_view_and_back_tracked_patches(setting, distorted_only):
    student, teacher, batch, random = setting
    targets = target_of(teacher.head(teacher.features.patches))
    scores = student.head(student.features.patches)
    same, between = [], []
    for a in range(V):
        for i in range(B):
            for n in range(N):
                if batch.mask[a, i, n] or not distorted_only:
                    same.append(cross_entropy(targets[a, i, n], scores[a, i, n]))
                there = prediction_at(targets, batch, a, i, *box_point(batch, 1 - a, i, n))
                if there is not None:
                    between.append(cross_entropy(there, scores[1 - a, i, n]))
    assert 0 < len(between) < 2 * B * N
    term = built(LocalConsistency(distorted_only=distorted_only))(student, teacher, batch, random)
    expected = 0.5 * sum(same) / len(same) + 0.5 * sum(between) / len(between)
    assert term.loss.item() == pytest.approx(expected, abs=1e-5)


def test_images_whose_views_share_no_patch_add_nothing_between_views(setting):
    student, teacher, batch, random = setting
    apart = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.6, 0.6, 1.0, 1.0]])[:, None].expand(2, B, 4)
    batch = batch._replace(clean=batch.clean._replace(boxes=apart))
    term = built(LocalConsistency(same_view=0.0))(student, teacher, batch, random)
    assert term.loss.item() == 0.0


def test_a_subset_of_patches_estimates_the_loss_on_all(setting):
    student, teacher, batch, _ = setting
    everything = built(LocalConsistency())(student, teacher, batch, setting[3]).loss.item()
    crops = random_crops(B, side=32, seed=3)
    estimates = [
        built(LocalConsistency(patches=6))(student, teacher, batch, random_of(crops, seed)).loss.item()
        for seed in range(60)
    ]
    assert sum(estimates) / 60 == pytest.approx(everything, rel=0.03)
    assert len(set(estimates)) == 60


def test_the_entropy_of_the_targets_is_reported(setting):
    student, teacher, batch, random = setting
    targets = target_of(teacher.head(teacher.features.cls))
    naive = -sum(float(p) * math.log(p) for p in targets.flatten()) / (V * B)
    assert built(GlobalConsistency())(student, teacher, batch, random).target_entropy.item() == pytest.approx(
        naive, abs=1e-5
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (GlobalConsistency(targets=Centring()), GlobalConsistency(targets=SinkhornKnopp())),
        (GlobalConsistency(), GlobalConsistency(centre_tokens=True)),
        (GlobalConsistency(), GlobalConsistency(targets=Centring(temperature=0.02))),
        (RegionalConsistency(targets=Centring()), RegionalConsistency(targets=SinkhornKnopp())),
        (RegionalConsistency(regions=Uniform(4)), RegionalConsistency(regions=Grid(4))),
        (RegionalConsistency(regions=Uniform(4)), RegionalConsistency(regions=Uniform(2))),
        (RegionalConsistency(regions=Uniform(4, (2,))), RegionalConsistency(regions=Uniform(4, (3,)))),
        (LocalConsistency(targets=Centring()), LocalConsistency(targets=SinkhornKnopp())),
        (LocalConsistency(), LocalConsistency(same_view=1.0)),
        (LocalConsistency(), LocalConsistency(between_views=1.0)),
        (LocalConsistency(), LocalConsistency(distorted_only=True)),
        (LocalConsistency(), LocalConsistency(patches=5)),
    ],
)
def test_every_setting_has_an_effect(one, other, setting):
    values = [built(objective)(*setting).loss.item() for objective in (one, other)]
    assert values[0] != values[1]


def test_the_loss_is_float32_inside_autocast(setting):
    student, teacher, batch, random = setting
    single = [
        NetworkOutput(
            Features(*(p.float() for p in b.features[:4]), GRID), None, b.head.float(), b.context.float(), b.temperature
        )
        for b in (student, teacher)
    ]
    for objective in (GlobalConsistency(), RegionalConsistency(), LocalConsistency()):
        objective.build(K, D)
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(*single, batch, random).loss
        assert loss.dtype == torch.float32
