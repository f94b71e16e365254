"""Anchors equal their formulas, and are zero at the frozen features."""

import pytest
import torch
from lightning.pytorch import Trainer

from src.backbones.adapters import SLR, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur
from tests.tiny import random_crops, tiny_backbone, tiny_head


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_anchors_equal_naive_loops():
    ours, frozen = torch.randn(1, 2, 3, 5), torch.randn(1, 2, 3, 5)
    drift = [1 - cosine(ours[0, i, n], frozen[0, i, n]) for i in range(2) for n in range(3)]
    assert CosineAnchor().distance(ours, frozen).item() == pytest.approx(sum(drift) / 6, abs=1e-6)
    gram = [
        (cosine(ours[0, i, n], ours[0, i, m]) - cosine(frozen[0, i, n], frozen[0, i, m])) ** 2
        for i in range(2) for n in range(3) for m in range(3)
    ]  # fmt: skip
    assert GramAnchor().distance(ours, frozen).item() == pytest.approx(sum(gram) / 18, abs=1e-6)


def test_the_gram_anchor_lets_features_turn_as_a_whole_and_the_cosine_anchor_does_not():
    frozen = torch.randn(1, 1, 4, 6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    assert GramAnchor().distance(frozen @ rotation, frozen).item() == pytest.approx(0, abs=1e-6)
    assert CosineAnchor().distance(frozen @ rotation, frozen).item() > 0.1


@pytest.mark.parametrize("anchor", [CosineAnchor, GramAnchor])
def test_an_anchor_pulls_features_that_drifted_back_to_the_frozen_ones(anchor, monkeypatch, tmp_path):
    images = torch.rand(2, 3, 32, 32)
    backbone = tiny_backbone(monkeypatch)
    frozen = backbone(images).patches
    module = ContinualPretraining(
        backbone, UniAdapter(rank=4, scale=1.0), tiny_head(), {"anchor": anchor()}, Blur(0.0),
        Optimisation(lr=1e-2, lr_batch=None, warmup=0.0, head_warmup=0.0),
    )  # fmt: skip
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(0.1 * torch.randn_like(parameter))
        before = anchor().distance(backbone(images).patches, frozen).item()
    trainer = Trainer(
        max_steps=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader([random_crops(4, seed=i) for i in range(30)], batch_size=None))
    with torch.no_grad():
        after = anchor().distance(module.student.backbone(images).patches, frozen).item()
    assert after < 0.5 * before


@pytest.mark.parametrize("anchor", [CosineAnchor, GramAnchor])
@pytest.mark.parametrize(
    "kind", [Full(), LastBlocks(1), BitFit(), UniAdapter(rank=4), AdaptFormer(4), LoRA(2), SLR(2)], ids=str
)
def test_an_anchor_measures_the_distance_to_the_bare_model_where_student_and_teacher_drifted(
    kind, anchor, monkeypatch, tmp_path
):
    bare = tiny_backbone(monkeypatch)
    module = ContinualPretraining(
        tiny_backbone(monkeypatch), kind, tiny_head(), {"anchor": anchor()}, Blur(0.0),
        Optimisation(lr=0.0, lr_batch=None, warmup=0.0, head_warmup=0.0, weight_decay=(0.0, 0.0)),
    )  # fmt: skip
    crops = random_crops(4)
    images = crops.global_views.images.flatten(0, 1)
    with torch.no_grad():
        for name, parameter in module.student.backbone.trainable():
            parameter.add_(0.5 * torch.randn_like(parameter))
            module.teacher.network.backbone.get_parameter(name).copy_(parameter)  # also the teacher is far from it
        views = (network(images).patches.unflatten(0, (2, -1)) for network in (module.student.backbone, bare))
        expected = anchor().distance(*views).item()
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader([crops], batch_size=None))
    assert expected > 1e-4
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-3)
