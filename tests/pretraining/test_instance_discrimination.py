"""Instance discrimination equals a naive loop, trains adapter and classifier alone, and resumes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from safetensors import safe_open
from torch.utils.data import DataLoader

from datamodules.sampling.monitor_sample import MonitorSample
from datamodules.scenes import ScenesDataModule
from src.backbones.adapters import SLR, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.core.errors import UserError
from src.monitoring.feature_metrics import FeatureMetrics
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor
from src.pretraining.consistency import GlobalConsistency
from src.pretraining.instance_discrimination import InstanceDiscrimination
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur
from tests.tiny import random_crops, random_of, tiny_backbone, tiny_head

IMAGES = 12
LORA = LoRA(rank=2)
CLASSIFIER = "objectives.instance.classifier.weight"
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip


def model(monkeypatch: pytest.MonkeyPatch, adapter: Any = LORA, **options: Any) -> ContinualPretraining:
    seed_everything(0)
    return ContinualPretraining(
        tiny_backbone(monkeypatch), adapter, tiny_head(), {"instance": InstanceDiscrimination(**options)}, Blur(0.0),
        Optimisation(lr=1e-2, lr_batch=None, warmup=0.0, head_warmup=0.0, momentum=0.5),
    )  # fmt: skip


def scenes(batch: int = 4, images: int = IMAGES) -> ScenesDataModule:
    return ScenesDataModule(
        task="pretrain", batch_size=batch, size=32, side=64, train_images=images, num_workers=0, local_views=1,
        local_size=32,
    )  # fmt: skip


def fit(module: ContinualPretraining, folder: Path, data: Any = None, steps: int = 3, **options: Any) -> Trainer:
    resume = {name: options.pop(name) for name in ("ckpt_path", "weights_only") if name in options}
    trainer = Trainer(max_steps=steps, default_root_dir=folder, **QUIET, **options)
    trainer.fit(module, datamodule=scenes() if data is None else data, **resume)
    return trainer


def moving(module: ContinualPretraining) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_the_loss_equals_a_naive_loop(local: int, smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = model(monkeypatch, label_smoothing=smoothing, images=IMAGES)
    objective = module.objectives["instance"]
    assert isinstance(objective, InstanceDiscrimination)
    objective.prepare(None)
    module.double()
    crops = random_crops(3, local=local, first=5)
    images = crops.global_views.images.double() / 255
    local_images = None if crops.local_views is None else crops.local_views.images.double() / 255
    student = module.student(images, 0.1, local_images=local_images)
    batch: Any = None  # only the tokens and the indices are read
    found = objective(student, student, batch, random_of(crops)).loss
    assert objective.classifier is not None
    weight = objective.classifier.weight.detach()
    total, count = 0.0, 0
    for views in (student.features.cls, *(() if student.local_cls is None else (student.local_cls,))):
        for view in views.detach():
            for image, token in zip(range(5, 8), view, strict=True):
                scores = [float(row @ token) / float(token.norm()) for row in weight]
                partition = sum(math.exp(score) for score in scores)
                for name, score in enumerate(scores):
                    target = (1 - smoothing) * (name == image) + smoothing / IMAGES
                    total -= target * math.log(math.exp(score) / partition)
                count += 1
    assert count == 3 * (2 + local)
    assert found.item() == pytest.approx(total / count, abs=1e-12)


@pytest.mark.parametrize(
    "kind", [Full(), LastBlocks(1), BitFit(), UniAdapter(rank=4), AdaptFormer(4), LoRA(2), SLR(2)], ids=str
)
def test_classifier_and_every_parameter_of_an_adapter_learn_and_nothing_else(
    kind: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = model(monkeypatch, kind)
    asked: list[object] = []
    monkeypatch.setattr(module.teacher.network, "forward", lambda *inputs, **options: asked.append(inputs))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, tmp_path)
    learnt = moving(module)
    assert CLASSIFIER in learnt and learnt[CLASSIFIER].shape == (IMAGES, module.student.backbone.width)
    assert learnt.keys() - {CLASSIFIER} == {
        f"student.backbone.{name}" for name, _ in module.student.backbone.trainable()
    }
    assert all(name == CLASSIFIER or not torch.equal(value, before[name]) for name, value in learnt.items())
    followed = [
        name
        for name in before
        if name.startswith("teacher") and not torch.equal(module.state_dict()[name], before[name])
    ]
    assert not asked and followed  # the teacher follows the student, but sees no image
    decayed = {
        id(p) for group in module.configure_optimizers().param_groups if group["decayed"] for p in group["params"]
    }
    assert id(module.get_parameter(CLASSIFIER)) in decayed


def test_the_images_are_told_apart_and_the_loss_starts_at_log_n(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    losses = []

    class Recorded(ContinualPretraining):
        def training_step(self, *inputs: Any) -> torch.Tensor:
            losses.append(super().training_step(*inputs))
            return losses[-1]

    module = model(monkeypatch, LoRA(rank=4), label_smoothing=0.0, images=4)
    module.__class__ = Recorded
    module.optimisation = dataclasses.replace(module.optimisation, lr=5e-2)
    trainer = Trainer(max_steps=60, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, DataLoader([random_crops(4)] * 60, batch_size=None))  # type: ignore[arg-type]
    assert losses[0].item() == pytest.approx(math.log(4), abs=0.1)
    assert losses[-1].item() < 0.5 * math.log(4)


class SaveAt(Callback):
    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file)


def test_a_resumed_run_is_the_unbroken_one_and_only_checkpoints_hold_the_classifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = model(monkeypatch)
    fit(whole, tmp_path, steps=5, callbacks=[SaveAt(tmp_path / "two.ckpt", 2)])
    resumed = model(monkeypatch)
    fit(resumed, tmp_path, steps=5, ckpt_path=str(tmp_path / "two.ckpt"), weights_only=False)
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], rtol=0, atol=1e-6), name
    whole.save_adapter(tmp_path / "adapter.safetensors")
    with safe_open(tmp_path / "adapter.safetensors", "pt") as file:
        names = list(file.keys())
    assert names and not any("classifier" in name or "objectives" in name for name in names)
    assert CLASSIFIER in torch.load(tmp_path / "two.ckpt", weights_only=False)["state_dict"]
    with pytest.raises(UserError, match=r"classifier.weight is \(12, 32\) in the file and \(8, 32\) here"):
        fit(model(monkeypatch), tmp_path, scenes(images=8), ckpt_path=str(tmp_path / "two.ckpt"), weights_only=False)


def test_accumulated_batches_are_one_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcomes = []
    for parts in (1, 2):
        module = model(monkeypatch)
        fit(module, tmp_path, scenes(6 // parts), steps=2, accumulate_grad_batches=parts, precision="64-true")
        outcomes.append(moving(module))
    for name, value in outcomes[0].items():
        assert torch.allclose(value, outcomes[1][name], rtol=0, atol=1e-9), name


def test_in_bfloat16_the_scores_stay_in_float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = model(monkeypatch)
    dtypes = []

    def watched(layer: Any, inputs: Any, scores: torch.Tensor) -> None:
        dtypes.append((inputs[0].dtype, scores.dtype))

    objective = module.objectives["instance"]
    assert isinstance(objective, InstanceDiscrimination)
    objective.build(16, 32)
    objective.prepare(scenes())
    assert objective.classifier is not None
    objective.classifier.register_forward_hook(watched)
    trainer = fit(module, tmp_path, precision="bf16-mixed")
    assert set(dtypes) == {(torch.float32, torch.float32)} and len(dtypes) == 3
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_a_second_fit_on_as_many_images_keeps_the_classifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = model(monkeypatch)
    fit(module, tmp_path)
    first = module.get_parameter(CLASSIFIER)
    fit(module, tmp_path)
    assert module.get_parameter(CLASSIFIER) is first
    fit(module, tmp_path, scenes(images=8))
    assert module.get_parameter(CLASSIFIER).shape == (8, 32)


def test_a_head_without_objectives_that_use_it_does_not_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for objective, learns in ((CosineAnchor(), False), (InstanceDiscrimination(), False), (GlobalConsistency(), True)):
        module = ContinualPretraining(tiny_backbone(monkeypatch), LoRA(2), tiny_head(), {"one": objective})
        assert any(p.requires_grad for p in module.student.head.parameters()) == learns
        assert not any(p.requires_grad for p in module.teacher.parameters())


def test_the_monitor_leaves_out_what_it_cannot_measure_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    module = model(monkeypatch, images=2)
    module.objectives["instance"].prepare(None)  # type: ignore[operator]
    metrics = FeatureMetrics(module.teacher.network.backbone, MonitorSample(random_crops(4), None, None), None)
    signs = metrics.measure(module.teacher.network, {"instance": InstanceDiscrimination(images=2)}, 0.05)
    assert "rank/patches" in signs and not any("instance" in name for name in signs)


class Unsized(ScenesDataModule):
    def source(self, split: Any) -> Any:
        return iter(())


def test_data_without_a_number_of_images_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loader = DataLoader([random_crops(4)], batch_size=None)  # type: ignore[arg-type]
    trainer = Trainer(max_steps=1, default_root_dir=tmp_path, **QUIET)
    with pytest.raises(
        UserError, match=r"found a loader without a data module; use a data module .* init_args\.images"
    ):
        trainer.fit(model(monkeypatch), loader)
    trainer.fit(model(monkeypatch, images=4), loader)
    with pytest.raises(UserError, match="Unsized, which does not tell it"):
        InstanceDiscrimination().prepare(Unsized(task="pretrain"))
    with pytest.raises(UserError, match="expected at least 2 training images, found 1"):
        InstanceDiscrimination().prepare(scenes(images=1))


@pytest.mark.parametrize("first", [1, -1])
def test_an_index_without_a_class_is_refused(first: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loader = DataLoader([random_crops(4), random_crops(4, first=first)], batch_size=None)  # type: ignore[arg-type]
    trainer = Trainer(max_steps=2, default_root_dir=tmp_path, **QUIET)
    message = (
        rf"expected indices of images from 0 to 3, one for each of 4 training images, found {first} to {first + 3}"
    )
    with pytest.raises(UserError, match=message):
        trainer.fit(model(monkeypatch, images=4), loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing: expected a finite number"),
        ({"label_smoothing": -0.1}, "label_smoothing: expected a finite number"),
        ({"images": 1}, "images: expected a finite number of at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InstanceDiscrimination(**options)
