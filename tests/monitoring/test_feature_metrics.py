"""Signs of a fixed sample against their definitions, on features that are known."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from datamodules.sampling.monitor_sample import MonitorSample
from datamodules.views import Views
from src.backbones.adapters import UniAdapter
from src.monitoring.feature_metrics import FeatureMetrics, agreement, features_of
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.network import Network
from src.pretraining.regions import RegionalAttention
from src.pretraining.targets import Centring, SinkhornKnopp
from tests.tiny import random_crops, tiny_backbone, tiny_head


class Labelled:
    """Images whose left half is black and of class 0, whose right half is white and of class 1."""

    def __init__(self, images: int, seed: int, ignored: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randint(0, 20, (images, 3, 32, 32), generator=generator).to(torch.uint8)
        self.images[..., 16:] += 230
        mask = torch.zeros(48, 40, dtype=torch.int64)
        mask[:, 20:] = 1
        self.masks = [torch.full_like(mask, 255) if ignored else mask for _ in range(images)]


def parts(monkeypatch, labelled: bool = True):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    network = Network(backbone, tiny_head()(backbone.width), RegionalAttention(backbone.width)).eval()
    objectives = {
        "global": GlobalConsistency(targets=SinkhornKnopp(), centre_tokens=True),
        "regional": RegionalConsistency(),
        "local": LocalConsistency(targets=Centring(), patches=2),
    }
    for objective in objectives.values():
        objective.build(16, backbone.width)
    pairs = (Labelled(4, 1), Labelled(3, 2)) if labelled else (None, None)
    signs = FeatureMetrics(backbone, MonitorSample(random_crops(6), *pairs), (2, 255) if labelled else None)
    return backbone, network, objectives, signs


def moved(backbone) -> None:
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(torch.randn_like(parameter))


def test_an_untouched_adapter_has_the_signs_of_the_frozen_backbone(monkeypatch) -> None:
    _, network, objectives, signs = parts(monkeypatch)
    measured = signs.measure(network, objectives, 0.05)
    kinds = ("entropy", "usage", "kl_uniform", "kl_mean")
    levels = [f"{kind}/{level}" for level in objectives for kind in kinds]
    names = ["rank/cls", "rank/patches", "cosine/cls", "cosine/patches", "agreement", "knn", "probe", *levels]
    assert sorted(measured) == sorted(names)
    for name, sign in measured.items():
        assert sign.adapted == sign.frozen, name
    assert measured["cosine/cls"].frozen == pytest.approx(1, abs=1e-6)
    assert measured["knn"].adapted == measured["probe"].adapted == 1.0  # black and white are easily told apart


def test_targets_inform_by_their_distance_to_uniform_and_to_their_own_mean(monkeypatch) -> None:
    _, network, objectives, signs = parts(monkeypatch)
    measured = signs.measure(network, objectives, 0.05)
    for level in objectives:
        uniform, mean = (measured[f"{kind}/{level}"].adapted for kind in ("kl_uniform", "kl_mean"))
        assert 0 < mean <= uniform + 1e-4
        assert uniform == pytest.approx(math.log(16) * (1 - measured[f"entropy/{level}"].adapted), abs=1e-5)
    flat = signs.measure(network, objectives, 1000.0)
    assert max(flat[f"kl_mean/{level}"].adapted for level in objectives) < 0.001


def test_structure_stands_beside_frozen_with_its_interval(monkeypatch) -> None:
    backbone, network, objectives, _ = parts(monkeypatch)
    signs = FeatureMetrics(backbone, MonitorSample(random_crops(8, side=96), None, None), None)
    measured = signs.measure(network, objectives, 0.05)
    assert measured["structure"].adapted == measured["structure"].frozen == measured["structure/upper"].adapted
    moved(backbone)
    measured = signs.measure(network, objectives, 0.05)
    assert measured["structure/upper"].adapted > measured["structure"].adapted != measured["structure"].frozen
    assert measured["structure/upper"].frozen == measured["structure"].frozen


def test_a_moved_adapter_is_measured_beside_the_frozen_backbone_and_nothing_is_changed(monkeypatch) -> None:
    backbone, network, objectives, signs = parts(monkeypatch)
    frozen = {name: sign.frozen for name, sign in signs.measure(network, objectives, 0.05).items()}
    moved(backbone)
    state = copy.deepcopy([objective.state_dict() for objective in objectives.values()])
    random = torch.get_rng_state()
    one, two = (signs.measure(network, objectives, 0.05) for _ in range(2))
    assert one == two
    assert {name: sign.frozen for name, sign in one.items()} == frozen
    assert torch.equal(torch.get_rng_state(), random)
    for objective, before in zip(objectives.values(), state, strict=True):
        assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    with torch.no_grad(), backbone.adapters_off():
        original = features_of(backbone, random_crops(6).global_views.images)
    with torch.no_grad():
        features = features_of(backbone, random_crops(6).global_views.images)
        targets = ((network.head(features.cls - features.cls.mean((0, 1))) - 1) / 0.05).exp().flatten(0, 1).double()
    cosines = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(
        features.cls.flatten(0, 1).double().numpy(), original.cls.flatten(0, 1).double().numpy(), strict=True
    )]  # fmt: skip
    assert one["cosine/cls"].adapted == pytest.approx(np.mean(cosines), abs=1e-5)
    assert one["cosine/cls"].adapted < 0.99
    for _ in range(3):
        targets = targets / targets.sum(0)
        targets = targets / targets.sum(1, keepdim=True)
    entropy = -(targets * targets.log()).sum(1).mean() / math.log(16)
    assert one["entropy/global"].adapted == pytest.approx(float(entropy), abs=1e-4)
    mean = targets.mean(0)
    assert one["usage/global"].adapted == pytest.approx(float(torch.exp(-(mean * mean.log()).sum())), rel=1e-4)


def test_agreement_is_one_for_the_same_ground_and_near_zero_for_noise() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5]] * 3, [[0.0, 0.25, 0.5, 0.75]] * 3])
    flips = torch.tensor([[False] * 3, [True] * 3])
    views = Views(torch.empty(0), boxes, flips)
    ground = torch.randn(3, 4, 8, 16, generator=torch.Generator().manual_seed(0))  # [B, h, w, D], the image's left part
    first, second = ground[:, :, :4], ground[:, :, 2:6].flip(2)  # half of a view apart, the second mirrored
    patches = torch.stack((first, second)).flatten(2, 3)
    centred = patches - patches.mean((0, 1, 2))
    assert agreement(patches, views, (4, 4)) == pytest.approx(1, abs=1e-5)
    assert agreement(centred + 100, views, (4, 4)) == pytest.approx(1, abs=1e-3)  # a common part does not help or harm
    other = torch.randn(2, 3, 16, 400, generator=torch.Generator().manual_seed(1))
    assert abs(agreement(other, views, (4, 4))) < 0.1


def test_no_finite_features_are_nan_beside_what_the_frozen_backbone_gives(monkeypatch) -> None:
    backbone, network, objectives, signs = parts(monkeypatch, labelled=False)
    with torch.no_grad():
        backbone.trainable()[0][1].fill_(math.nan)
    measured = signs.measure(network, objectives, 0.05)
    assert "knn" not in measured
    assert all(math.isnan(sign.adapted) and math.isfinite(sign.frozen) for sign in measured.values())
