"""The loss on bottleneck codes equals the direct formula on K-wide scores, gradients included, in float64."""

import copy
import itertools

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from src.backbones.features import Features
from src.pretraining import cross_entropy as module
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.correspondence import locate, patch_centres, sample_bilinear
from src.pretraining.cross_entropy import cross_entropy
from src.pretraining.network import NetworkOutput
from src.pretraining.patch_augmentation import Blur
from src.pretraining.regions import RegionalAttention, Uniform, region_means
from src.pretraining.target_summary import entropy, prototypes_used
from src.pretraining.targets import Centring, SinkhornKnopp
from tests.tiny import random_crops, random_of, tiny_head

V, B, N, D, K, GRID = 2, 3, 16, 12, 40, (4, 4)


@pytest.fixture(params=[1, 3 * K + 1, 1 << 20], ids=["row by row", "blocks of 3 rows", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setitem(module._BLOCK_ELEMENTS, "cpu", request.param)


def branch(seed: int, temperature: float, local: int = 0, prototypes: int = K) -> NetworkOutput:
    torch.manual_seed(seed)
    cls, patches = (torch.randn(V, B, *s, D, dtype=torch.float64, requires_grad=True) for s in ((), (N,)))
    attention = torch.rand(V, B, 2, N, dtype=torch.float64).softmax(-1)
    features = Features(cls, torch.zeros(V, B, 0, D), patches, attention, GRID)
    head = tiny_head(prototypes)(D).double()
    for layer in head.mlp[::2]:
        torch.nn.init.orthogonal_(layer.weight, gain=2.0)
    extra = torch.randn(local, B, D, dtype=torch.float64, requires_grad=True) if local else None
    return NetworkOutput(features, extra, head, RegionalAttention(D, noise=0.3).double(), temperature)


def setting(local: int = 0, prototypes: int = K):
    crops = random_crops(B, side=32, seed=3)
    random = random_of(crops)
    return branch(1, 0.1, local, prototypes), branch(2, 0.05, 0, prototypes), Blur(0.5)(crops, 8, random), random


def pairs(students: int, teachers: int = V):
    return [(a, b) for a, b in itertools.product(range(teachers), range(students)) if a != b]


def direct_global(objective, student, teacher, batch, random):
    seen, tokens = teacher.features.cls, student.features.cls
    if student.local_cls is not None:
        tokens = torch.cat((tokens, student.local_cls))
    if objective.centre_tokens:
        mean = objective.mean(seen)
        seen, tokens = seen - mean, tokens - mean
    targets, scores = objective.targets(teacher.head(seen), teacher.temperature), student.head(tokens)
    values = [cross_entropy(targets[a], scores[b], student.temperature).mean() for a, b in pairs(len(scores))]
    return torch.stack(values).mean(), targets


def direct_regional(objective, student, teacher, batch, random):
    seen = teacher.features
    regions = region_means(seen.patches, objective.regions(seen.attention, seen.grid, random)).detach()
    targets = objective.targets(teacher.head(teacher.context(regions, seen.patches)), teacher.temperature)
    values = []
    for a, b in pairs(V):
        scores = student.head(student.context(regions[a], student.features.patches[b]))
        values.append(cross_entropy(targets[a], scores, student.temperature).mean())
    return torch.stack(values).mean(), targets


def direct_local(objective, student, teacher, batch, random):
    targets = objective.targets(teacher.head(teacher.features.patches), teacher.temperature)
    scores, clean = student.head(student.features.patches), batch.clean
    kept = torch.ones(V, B, N, dtype=torch.bool)
    if objective.patches is not None:
        order = random.uniform("local/subset", V, N).transpose(0, 1).argsort(dim=-1)
        kept = torch.zeros_like(kept).scatter_(-1, order[..., : objective.patches], True)
    mask = kept & batch.mask if objective.distorted_only else kept
    loss = objective.same_view * cross_entropy(targets, scores, student.temperature)[mask].mean()
    values = []
    for a, b in pairs(V):
        ground = patch_centres(clean.boxes[b], clean.flips[b], GRID)
        positions, inside = locate(ground, clean.boxes[a], clean.flips[a], GRID)
        there = sample_bilinear(targets[a], positions, GRID)
        values.append(cross_entropy(there, scores[b], student.temperature)[inside & kept[b]])
    return loss + objective.between_views * torch.cat(values).mean(), targets


CASES = {
    "global": (lambda t: GlobalConsistency(targets=t), direct_global, 0),
    "global, local views": (lambda t: GlobalConsistency(targets=t), direct_global, 3),
    "global, centred": (lambda t: GlobalConsistency(targets=t, centre_tokens=True), direct_global, 2),
    "regional": (lambda t: RegionalConsistency(targets=t, regions=Uniform(3)), direct_regional, 0),
    "local": (lambda t: LocalConsistency(targets=t), direct_local, 0),
    "local, distorted": (lambda t: LocalConsistency(targets=t, distorted_only=True), direct_local, 0),
    "local, subset": (lambda t: LocalConsistency(targets=t, same_view=0.3, patches=6), direct_local, 0),
    "local, subset, distorted": (
        lambda t: LocalConsistency(targets=t, distorted_only=True, patches=9),
        direct_local,
        0,
    ),
}


@pytest.mark.parametrize("kind", [Centring, SinkhornKnopp])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_equal_the_direct_formula(case, kind, blocks):
    make, direct, local = CASES[case]
    student, teacher, batch, random = setting(local)
    objective = make(kind())
    objective.build(K, D)
    objective.double()
    other = copy.deepcopy(objective)
    parameters = [p for p in (*student.head.parameters(), *student.context.parameters()) if p.requires_grad]
    parameters += [student.features.cls, student.features.patches] + ([student.local_cls] if local else [])
    for _ in range(2):  # the second time the centre is no longer zero
        results = []
        term = objective(student, teacher, batch, random)
        expected, targets = direct(other, student, teacher, batch, random)
        for loss in (term.loss, expected):
            results.append((loss, *torch.autograd.grad(3.7 * loss, parameters, allow_unused=True)))
        for one, reference in zip(*results, strict=True):
            assert (one is None) == (reference is None)
            if one is not None:
                assert (one - reference).norm() <= 1e-13 * reference.norm()
        assert torch.allclose(term.target_entropy, entropy(targets), rtol=1e-13)
        assert torch.allclose(term.prototypes_used, prototypes_used(targets), rtol=1e-13)
        for one, reference in zip(objective.buffers(), other.buffers(), strict=True):
            assert torch.allclose(one, reference, rtol=1e-13, atol=1e-16)


def test_targets_are_described_only_on_request():
    terms = []
    for describe in (True, False):
        objective = GlobalConsistency()
        objective.build(K, D)
        terms.append(objective.double()(*setting(), describe=describe))
    assert terms[0].target_entropy is not None and terms[0].prototypes_used is not None
    assert terms[1].target_entropy is None and terms[1].prototypes_used is None
    assert torch.equal(terms[0].loss, terms[1].loss)


def test_fixed_prototypes_and_a_pass_without_gradient_give_the_same_value():
    values = []
    for fixed, grad in ((False, True), (True, True), (False, False)):
        student, teacher, batch, random = setting()
        student.head.prototypes.requires_grad_(not fixed)
        objective = LocalConsistency()
        objective.build(K, D)
        objective.double()
        with torch.set_grad_enabled(grad):
            loss = objective(student, teacher, batch, random).loss
        assert loss.requires_grad == grad
        if grad:
            loss.backward()
            gradient = student.head.prototypes.parametrizations.weight.original1.grad
            assert (gradient is None) == fixed and student.features.patches.grad.abs().sum() > 0
        values.append(loss.item())
    assert len(set(values)) == 1


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, torch.Tensor):
                self.elements = max(self.elements, part.numel())
        return result


@pytest.mark.parametrize("kind", [Centring, SinkhornKnopp])
def test_no_score_outlives_its_block(kind, monkeypatch):
    prototypes, block = 512, 4096
    monkeypatch.setitem(module._BLOCK_ELEMENTS, "cpu", block)
    student, teacher, batch, random = setting(prototypes=prototypes)
    objective = LocalConsistency(targets=kind())
    objective.build(prototypes, D)
    objective.double()
    saved = []
    with Largest() as largest, saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        objective(student, teacher, batch, random).loss.backward()
    wide = V * B * N * prototypes
    assert max(saved) < wide / 8
    assert largest.elements == (wide if kind is SinkhornKnopp else prototypes * 8)  # 8: the head's bottleneck
