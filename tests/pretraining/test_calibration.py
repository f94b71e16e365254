"""Calibration on frozen tokens: what it measures, that it can be repeated, and that targets say something at once."""

import math

import pytest
import torch
from torch.nn import functional as F

from datamodules.scenes import ScenesDataModule
from src.backbones.adapters import LoRA
from src.pretraining import calibration as module
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.calibration import calibration
from src.pretraining.consistency import LocalConsistency
from src.pretraining.network import Network
from src.pretraining.patch_augmentation import Blur
from src.pretraining.targets import Uncentred
from tests.tiny import random_crops, random_of, tiny_backbone

K = 16


@pytest.fixture
def backbone(monkeypatch):
    return tiny_backbone(monkeypatch)


def scenes():
    return list(ScenesDataModule(task="pretrain", size=32, side=64, train_images=12, num_workers=0).clean_views(48))


def calibrated(backbone, views, seed: int = 0, **options) -> CalibratedHead:
    head = CalibratedHead(32, **{"prototypes": K, "hidden": 8, **options})
    head.calibrate(*calibration(backbone, head, views, seed))
    return head


def frozen_tokens(backbone, views) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([backbone(crops.global_views.images.flatten(0, 1)).patches for crops in views])


def test_statistics_are_those_of_the_frozen_patches_whatever_the_adapter_does(backbone):
    views = [random_crops(4, seed=i) for i in range(3)]
    tokens = frozen_tokens(backbone, views).flatten(0, 1).double()
    before = calibrated(backbone, views)
    backbone.install(LoRA(rank=2))
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(torch.randn_like(parameter))
    after = calibrated(backbone, views)
    for name, value in before.state_dict().items():
        assert "mlp" in name or torch.equal(value, after.state_dict()[name]), name
    assert torch.allclose(after.whitening.mean.double(), tokens.mean(0), atol=1e-5)
    white = after.whitening(tokens.float()).double()
    variances = torch.linalg.eigvalsh(tokens.T.cov(correction=0)).flip(0).clamp_min(0)
    deviations = variances.sqrt()
    expected = (deviations / (deviations + 0.1 * deviations[0])).sort(descending=True).values
    found = torch.linalg.eigvalsh(white.T.cov(correction=0)).flip(0).clamp_min(0).sqrt()
    assert torch.allclose(found, expected, atol=1e-3)


def test_prototypes_are_unit_centroids_and_random_ones_are_not_of_the_data(backbone):
    views = scenes()
    tokens = F.normalize(calibrated(backbone, views).whitening(frozen_tokens(backbone, views)).flatten(0, 1), dim=-1)
    fits = {}
    for kind in ("kmeans", "random"):
        weight = calibrated(backbone, views, centroids=kind).prototypes.weight
        assert torch.allclose(weight.norm(dim=-1), torch.ones(K), atol=1e-5)
        fits[kind] = (tokens @ weight.T).max(dim=-1).values.mean().item()
    assert fits["kmeans"] > fits["random"] + 0.1


def test_a_seed_fixes_it_and_another_gives_other_prototypes(backbone):
    views = scenes()
    for kind in ("kmeans", "random"):
        one, same, other = (calibrated(backbone, views, seed, centroids=kind).prototypes.weight for seed in (1, 1, 2))
        assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("change", [{"epsilon": None}, {"epsilon": 0.5}, {"centroids": "random"}, {"prototypes": 8}])
def test_every_setting_has_an_effect(change, backbone):
    views = scenes()
    tokens = torch.randn(5, 32)
    one, other = calibrated(backbone, views)(tokens), calibrated(backbone, views, **change)(tokens)
    assert one.shape != other.shape or not torch.allclose(one, other, atol=1e-3)


def test_only_the_first_images_are_looked_at(backbone, monkeypatch):
    monkeypatch.setattr(module, "IMAGES", 8)
    views = [random_crops(4, seed=i) for i in range(2)]
    alone, more = calibrated(backbone, views), calibrated(backbone, [*views, random_crops(4, seed=9)])
    assert torch.equal(alone.prototypes.weight, more.prototypes.weight)


def test_no_image_or_too_few_tokens_are_refused(backbone):
    with pytest.raises(ValueError, match="found none"):
        calibrated(backbone, [])
    with pytest.raises(ValueError, match="at least 999 tokens"):
        calibrated(backbone, [random_crops(2)], prototypes=999)


def test_targets_say_something_at_the_first_step(backbone):
    """Entropy well below log K, and prototypes shared out: neither uniform nor one for all."""
    views = scenes()
    network = Network(backbone, calibrated(backbone, views), None)
    crops = views[0]
    batch = Blur(0.5)(crops, 16, random_of(crops))
    branch = network(batch.clean.images, 0.05)
    term = LocalConsistency(targets=Uncentred())(branch, branch, batch, random_of(crops))
    assert float(term.target_entropy) < 0.6 * math.log(K)
    assert float(term.prototypes_used) > K / 2


def test_the_local_loss_on_it_is_the_cross_entropy_of_softmaxes_written_as_a_loop(backbone):
    views = scenes()
    head = calibrated(backbone, views).double()
    crops = random_crops(3, seed=4)
    batch = Blur(0.5)(crops, 16, random_of(crops))
    network = Network(backbone.double(), head, None)
    teacher, student = network(batch.clean.images, 0.05), network(batch.distorted.images, 0.1)
    loss = LocalConsistency(targets=Uncentred(), between_views=0)(student, teacher, batch, random_of(crops)).loss
    losses = []
    for clean, seen in zip(teacher.features.patches.flatten(0, 2), student.features.patches.flatten(0, 2), strict=True):
        target, guess = ([math.exp(s / t) for s in head(z).tolist()] for z, t in ((clean, 0.05), (seen, 0.1)))
        losses.append(-sum(p / sum(target) * math.log(q / sum(guess)) for p, q in zip(target, guess, strict=True)))
    assert loss.item() == pytest.approx(0.5 * sum(losses) / len(losses), abs=1e-5)
