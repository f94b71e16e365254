"""Continual pre-training: what moves, what does not, and by how much."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from src.backbones.adapters import BitFit, Full, LoRA, UniAdapter
from src.backbones.frozen import check_loaded_keys, frozen_names, trainable_state
from src.core.errors import UserError
from src.pretraining import ContinualPretraining
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, Mask
from src.pretraining.udi import SecondClassConsistency
from tests.tiny import random_crops, tiny_backbone, tiny_head

FAST = Optimisation(lr=1e-2, lr_batch=None, warmup=0.0, head_warmup=0.0, freeze_last_layer=0, momentum=0.9)


def model(
    monkeypatch, optimisation: Optimisation = FAST, adapter=UniAdapter(rank=4), **options
) -> ContinualPretraining:
    seed_everything(0)
    return ContinualPretraining(tiny_backbone(monkeypatch), adapter, tiny_head(), optimisation=optimisation, **options)


def batches(count: int, batch: int = 4, local: int = 0):
    return DataLoader([random_crops(batch, seed=i, local=local) for i in range(count)], batch_size=None)


def fit(module, tmp_path, steps: int = 3, local: int = 0, **options) -> Trainer:
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    trainer.fit(module, batches(steps, local=local))
    return trainer


def snapshot(module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("adapter", [UniAdapter(rank=4), LoRA(rank=2), BitFit(), Full()], ids=str)
def test_frozen_tensors_stay_bit_equal_and_every_trainable_one_moves(adapter, monkeypatch, tmp_path):
    module = model(monkeypatch, adapter=adapter)
    before = snapshot(module)
    fit(module, tmp_path)
    for name, parameter in module.student.named_parameters():
        moved = not torch.equal(parameter, before[f"student.{name}"])
        assert moved == parameter.requires_grad, name


def test_the_teacher_follows_by_one_minus_m_at_each_step(monkeypatch, tmp_path):
    module = model(monkeypatch, dataclasses.replace(FAST, momentum=0.8))
    seen = []
    original = module.teacher.update

    def watched(student, momentum):
        teacher = snapshot(module.teacher.network)
        original(student, momentum)
        for name, parameter in student.named_parameters():
            expected = teacher[name] + (1 - momentum) * (parameter - teacher[name])
            assert torch.allclose(module.teacher.network.get_parameter(name), expected, atol=1e-7), name
        seen.append(momentum)

    monkeypatch.setattr(module.teacher, "update", watched)
    fit(module, tmp_path, steps=4)
    assert seen == pytest.approx([0.8, 1 - 0.2 * 0.5 * (1 + 2**-0.5), 0.9, 1 - 0.2 * 0.5 * (1 - 2**-0.5)])


def test_the_teacher_moves_once_per_optimiser_step_under_accumulation(monkeypatch, tmp_path):
    module = model(monkeypatch)
    calls = []
    monkeypatch.setattr(module.teacher, "update", lambda student, momentum: calls.append(module.global_step))
    trainer = Trainer(
        max_steps=2, accumulate_grad_batches=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, batches(6))
    assert calls == [0, 1]  # steps made before this one


def test_head_warmup_keeps_the_adapters_and_the_first_epoch_keeps_the_prototypes(monkeypatch, tmp_path):
    module = model(monkeypatch, dataclasses.replace(FAST, head_warmup=1.0, freeze_last_layer=1, freeze_share=1.0))
    before = snapshot(module.student)
    fit(module, tmp_path)
    moved = {name for name, p in module.student.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith("backbone") or "prototypes" in name for name in moved)
    assert any(name.startswith("head.mlp") for name in moved) and any(name.startswith("context") for name in moved)


def test_prototypes_learn_where_an_epoch_is_longer_than_the_run(monkeypatch, tmp_path):
    optimisation = dataclasses.replace(FAST, freeze_last_layer=1, freeze_share=0.3)
    assert [optimisation.prototypes_frozen(0, step, 10) for step in range(5)] == [True, True, True, False, False]
    assert not optimisation.prototypes_frozen(1, 0, 10) and Optimisation().prototypes_frozen(0, 21, 440)
    assert not Optimisation().prototypes_frozen(0, 22, 440)
    module = model(monkeypatch, optimisation)
    before = module.student.head.prototypes.weight.clone()
    fit(module, tmp_path)
    assert module.current_epoch <= 1 and not torch.equal(module.student.head.prototypes.weight, before)


@pytest.mark.parametrize("adapter", [UniAdapter(rank=4), LoRA(rank=2), Full()], ids=str)
def test_every_trainable_parameter_is_in_exactly_one_group_and_only_matrices_of_layers_decay(adapter, monkeypatch):
    module = model(monkeypatch, adapter=adapter)
    groups = module.configure_optimizers().param_groups
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in module.parameters() if p.requires_grad)
    decayed = {id(p) for group in groups if group["decayed"] for p in group["params"]}
    for name, p in module.named_parameters():
        if p.requires_grad:
            exempt = p.ndim <= 1 or "context" in name or name.endswith(("pos_embed", "cls_token"))
            assert (id(p) in decayed) == (not exempt), name
    assert any(name.endswith("pos_embed") and p.requires_grad for name, p in module.named_parameters()) == (
        adapter == Full()
    )


CHANGES = [
    {"lr": 2e-2}, {"lr_batch": 256}, {"final_lr": 5e-3}, {"warmup": 1.0}, {"weight_decay": (0.9, 0.9)}, {"clip": 1e-3},
    {"head_warmup": 0.5}, {"freeze_last_layer": 1, "freeze_share": 0.5}, {"momentum": 0.2},
    {"student_temperature": 0.3}, {"teacher_temperature": (0.1, 0.2)}, {"temperature_warmup": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_of_the_optimisation_has_an_effect(change, monkeypatch, tmp_path):
    outcomes = []
    for settings in (FAST, dataclasses.replace(FAST, **change)):
        module = model(monkeypatch, settings)
        fit(module, tmp_path)
        outcomes.append(torch.cat([p.flatten() for p in module.parameters()]))
    assert not torch.equal(*outcomes)


def test_every_other_argument_has_an_effect(monkeypatch, tmp_path):
    outcomes = []
    for options in (
        {},
        {"patch_augmentation": Mask(0.3)},
        {"patch_augmentation": Blur(0.6)},
        {"seed": 1},
        {"objectives": {"g": GlobalConsistency()}},
    ):
        module = model(monkeypatch, **options)
        fit(module, tmp_path)
        outcomes.append(module.student.backbone.trunk.blocks[0].bottleneck.up.weight.detach().clone())
    for i, one in enumerate(outcomes):
        assert not any(torch.equal(one, other) for other in outcomes[i + 1 :])


def test_an_objective_with_weight_zero_is_gone_with_its_modules(monkeypatch, tmp_path):
    module = model(
        monkeypatch,
        objectives={
            "global": GlobalConsistency(),
            "regional": RegionalConsistency(0.0),
            "local": LocalConsistency(0.0),
        },
    )
    assert list(module.objectives) == ["global"] and module.student.context is None
    fit(module, tmp_path, local=2)
    with pytest.raises(ValueError, match="weight 0"):
        model(monkeypatch, objectives={"global": GlobalConsistency(0.0)})
    with pytest.raises(ValueError, match="objectives is empty: nothing to learn"):
        model(monkeypatch, objectives={})
    with pytest.raises(ValueError, match=r"objectives\.global\.weight: expected a finite number"):
        model(monkeypatch, objectives={"global": GlobalConsistency(float("nan"))})


def test_the_same_seed_gives_identical_losses(monkeypatch, tmp_path):
    losses = []
    for _ in range(2):
        module = model(monkeypatch)
        fit(module, tmp_path, steps=5)
        losses.append(module.trainer.callback_metrics["train/loss"].item())
    assert losses[0] == losses[1]


def test_a_checkpoint_holds_no_frozen_tensor_and_resuming_gives_the_undisturbed_run(monkeypatch, tmp_path):
    whole = model(monkeypatch)
    fit(whole, tmp_path, steps=6)
    loader = batches(6)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    half = model(monkeypatch)
    half.__class__ = type("Half", (ContinualPretraining,), {"total_steps": property(lambda self: 6)})
    trainer = Trainer(max_steps=3, default_root_dir=tmp_path, enable_checkpointing=False, **options)
    trainer.fit(half, DataLoader(loader.dataset[:3], batch_size=None))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    state = torch.load(tmp_path / "half.ckpt", weights_only=False)["state_dict"]
    assert not any("trunk.patch_embed" in name or ".block." in name for name in state)
    assert any(name.startswith("teacher") for name in state) and any("centre" in name for name in state)
    resumed = model(monkeypatch)
    with torch.no_grad():
        for parameter in resumed.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    resumed.__class__ = half.__class__
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, enable_checkpointing=False, **options)
    trainer.fit(resumed, DataLoader(loader.dataset[3:], batch_size=None), ckpt_path=str(tmp_path / "half.ckpt"))
    for (name, one), other in zip(whole.student.named_parameters(), resumed.student.parameters(), strict=True):
        if one.requires_grad and "prototypes" not in name:
            assert torch.allclose(one, other, atol=1e-6), name


def test_frozen_names_and_loaded_keys(monkeypatch):
    module = model(monkeypatch)
    frozen = frozen_names(module)
    assert "student.backbone.trunk.cls_token" in frozen and "teacher.network.backbone.trunk.cls_token" in frozen
    assert not any("bottleneck" in name or ("head" in name and "original0" not in name) for name in frozen)
    state = trainable_state(module, module.state_dict())
    check_loaded_keys(module, state)
    name = next(iter(state))
    with pytest.raises(ValueError, match=f"missing {name}"):
        check_loaded_keys(module, {key: value for key, value in state.items() if key != name})
    with pytest.raises(ValueError, match=r"unexpected student\.extra"):
        check_loaded_keys(module, {**state, "student.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="in the file"):
        check_loaded_keys(module, {**state, name: torch.zeros(1, 2, 3)})


def test_a_backbone_without_a_second_class_token_is_refused_where_one_is_asked_for(monkeypatch):
    with pytest.raises(ValueError, match="has no second class token"):
        model(monkeypatch, objectives={"second_class": SecondClassConsistency()})
    kept = {"global": GlobalConsistency(), "second_class": SecondClassConsistency(0.0)}
    assert list(model(monkeypatch, objectives=kept).objectives) == ["global"]


@pytest.mark.parametrize("local", [0, 2])
@pytest.mark.parametrize(("scale", "advice"), [(1.0, "divide by 255"), (-0.02, "which look normalised")])
def test_a_loader_of_ones_own_in_another_range_is_refused_before_the_first_step(
    local, scale, advice, monkeypatch, tmp_path
):
    module = model(monkeypatch)
    before = snapshot(module)

    def spoilt(views):
        return None if views is None else views._replace(images=views.images.float() * scale)

    crops = random_crops(local=local)
    if local:  # only the local views are wrong
        crops = crops._replace(local_views=spoilt(crops.local_views))
    else:
        crops = crops._replace(global_views=spoilt(crops.global_views))
    monkeypatch.setattr("tests.pretraining.test_module.random_crops", lambda *_, **__: crops)
    with pytest.raises(UserError, match=advice):
        fit(module, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in snapshot(module).items())


def test_the_values_of_images_are_looked_at_once_a_fit(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("src.pretraining.module.check_range", seen.append)
    module = model(monkeypatch)
    fit(module, tmp_path / "a")
    assert len(seen) == 1
    fit(module, tmp_path / "b")
    assert len(seen) == 2
