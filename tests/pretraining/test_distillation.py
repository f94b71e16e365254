"""Multi-scale distillation equals a naive loop, learns test-time averaging, and asks the teacher for nothing else."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import kl_div
from torch.utils.data import DataLoader

from datamodules.views import Crops
from src.backbones.adapters import SLR, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.pretraining import ContinualPretraining
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.distillation import MultiScaleDistillation
from src.pretraining.network import FrozenFeatures
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur
from tests.tiny import random_crops, tiny_backbone, tiny_head

HEAD = partial(CalibratedHead, prototypes=4, hidden=0)


def module_of(backbone: Backbone, objective: MultiScaleDistillation, adapter: Any, lr: float = 1e-2) -> Any:
    rate = Optimisation(lr=lr, lr_batch=None, warmup=0.0, head_warmup=0.0, freeze_last_layer=0)
    return ContinualPretraining(backbone, adapter, HEAD, {"distillation": objective}, Blur(0.3), rate)


def fitted(module: ContinualPretraining, batches: list[Crops], folder: Path, steps: int) -> Trainer:
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return trainer


def calibrated(module: ContinualPretraining) -> ContinualPretraining:
    width = module.student.backbone.width
    for network in (module.student, module.teacher.network):
        assert isinstance(network.head, CalibratedHead)
        torch.manual_seed(1)
        network.head.calibrate(torch.randn(width), torch.randn(width, width), torch.randn(4, width))
    return module


@torch.no_grad()
def naive(student: Tensor, frozen: Tensor, head: CalibratedHead, loss: str) -> float:
    total, count = 0.0, 0
    for ours, theirs in zip(student.flatten(0, -2), frozen.flatten(0, -2), strict=True):
        a, b = ((token - head.whitening.mean) @ head.whitening.projection for token in (ours, theirs))
        a, b = a / a.norm(), b / b.norm()
        if loss == "cosine":
            total += 1 - float(a @ b)
        else:
            scores = [(float(a @ c) / 0.1, float(b @ c) / 0.05) for c in head.prototypes.weight]
            partitions = [sum(math.exp(pair[which]) for pair in scores) for which in (0, 1)]
            for ours_score, theirs_score in scores:
                total -= math.exp(theirs_score) / partitions[1] * math.log(math.exp(ours_score) / partitions[0])
        count += 1
    return total / count


@pytest.mark.parametrize("loss", ["prototypes", "cosine"])
@pytest.mark.parametrize("step", range(5))
def test_each_step_meets_the_next_augmentation_of_the_bare_model(
    step: int, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, backbone = tiny_backbone(monkeypatch), tiny_backbone(monkeypatch)
    objective = MultiScaleDistillation(scales=(1.0, 2.0), loss=loss)
    module = calibrated(module_of(backbone, objective, UniAdapter(rank=4, scale=1.0)))
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(0.3 * torch.randn_like(parameter))
    crops = random_crops(3)
    batch = module.patch_augmentation(crops, backbone.patch_size, KeyedRandom(0, crops.epoch, crops.indices))
    student = module.student(batch.distorted.images, 0.1)
    teacher = module.teacher.network.without_features(batch.clean.images, 0.05)
    found = objective(student, teacher, batch._replace(step=step), KeyedRandom(0, crops.epoch, crops.indices))
    scale, mirrored = [(1.0, False), (1.0, True), (2.0, False), (2.0, True)][step % 4]
    images = batch.clean.images.flatten(0, 1)
    images = images.flip(-1) if mirrored else images

    def maps(seen: Tensor) -> Tensor:
        features = bare(seen)
        return features.patches.transpose(1, 2).unflatten(-1, features.grid)

    with torch.no_grad():
        expected = TestTimeAveraging(maps, bare.patch_size, (scale,), flip=False)(images)
    expected = (expected.flip(-1) if mirrored else expected).flatten(2).transpose(1, 2)
    value = naive(student.features.patches, expected, module.student.head, loss)
    assert found.loss.item() == pytest.approx(value, abs=1e-4)
    assert found.loss.requires_grad
    assert (found.target_entropy is None) == (loss == "cosine")


@pytest.mark.parametrize(
    "kind", [Full(), LastBlocks(1), BitFit(), UniAdapter(rank=4), AdaptFormer(4), LoRA(2), SLR(2)], ids=str
)
def test_targets_are_those_of_the_bare_model_where_student_and_teacher_drifted(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, backbone = tiny_backbone(monkeypatch), tiny_backbone(monkeypatch)
    module = module_of(backbone, MultiScaleDistillation(), kind)
    images = random_crops(2).global_views.images.float()
    images = images / 255 if images.max() > 1 else images
    before = FrozenFeatures(bare, images).augmented(1.5, mirrored=True)
    with torch.no_grad():
        for name, parameter in backbone.trainable():
            parameter.add_(0.5 * torch.randn_like(parameter))
            module.teacher.network.backbone.get_parameter(name).copy_(parameter)
    for network in (module.student, module.teacher.network):
        assert torch.equal(FrozenFeatures(network.backbone, images).augmented(1.5, mirrored=True), before)


@pytest.mark.parametrize("loss", ["prototypes", "cosine"])
def test_one_pass_learns_what_averaging_gives(loss: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tiny_backbone(monkeypatch)
    crops = random_crops(4)
    module = module_of(tiny_backbone(monkeypatch), MultiScaleDistillation(loss=loss), LoRA(8), lr=1e-2)
    module.patch_augmentation = Blur(0.0)
    fitted(module, [crops] * 120, tmp_path, 120)
    images = crops.global_views.images.flatten(0, 1)
    images = images.float() / 255 if images.dtype == torch.uint8 else images

    def maps(backbone: Backbone) -> Any:
        def one(seen: Tensor) -> Tensor:
            features = backbone(seen)
            return features.patches.transpose(1, 2).unflatten(-1, features.grid)

        return one

    with torch.no_grad():
        target = TestTimeAveraging(maps(bare), bare.patch_size)(images)
        head = module.student.head

        def distance(found: Tensor) -> float:
            if loss == "cosine":
                white = head.whitening.map
                return (1 - torch.cosine_similarity(white(found), white(target), dim=1)).mean().item()
            wanted, given = (head(one.movedim(1, -1)) for one in (target, found))
            return kl_div((given / 0.1).log_softmax(-1), (wanted / 0.05).softmax(-1), reduction="batchmean").item()

        before, after = (distance(maps(one)(images)) for one in (bare, module.teacher.network.backbone))
    assert after < 0.6 * before


def test_the_teacher_is_spared_and_still_follows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = module_of(tiny_backbone(monkeypatch), MultiScaleDistillation(), UniAdapter(rank=4, scale=1.0))
    asked: list[object] = []
    monkeypatch.setattr(module.teacher.network, "forward", lambda *inputs, **options: asked.append(inputs))
    before = [value.clone() for value in module.teacher.network.backbone.adapter_tensors(1.0).values()]
    trainer = fitted(module, [random_crops(4, seed=i) for i in range(3)], tmp_path, 3)
    after = list(module.teacher.network.backbone.adapter_tensors(1.0).values())
    assert not asked
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert 0 < trainer.callback_metrics["train/loss/distillation"].item() < 2 * math.log(4)


def test_a_head_without_statistics_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="CalibratedHead"):
        ContinualPretraining(
            tiny_backbone(monkeypatch), UniAdapter(), tiny_head(), {"distillation": MultiScaleDistillation()}
        )


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,), (float("nan"),)])
def test_scales_that_no_view_can_have_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="scales: expected"):
        MultiScaleDistillation(scales=scales)
