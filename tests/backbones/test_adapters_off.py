"""Adapters off is the bare model bit for bit: {adapter kind} × {student, teacher} × {fresh, resumed}."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from src.backbones.adapters import SLR, Adapter, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.backbones.adapters.selective import FrozenValues
from src.backbones.backbone import Backbone
from src.backbones.frozen import frozen_buffers
from src.backbones.restoration import restores
from src.pretraining import ContinualPretraining
from src.pretraining.network import Network
from src.pretraining.optimisation import Optimisation
from src.pretraining.teacher import Teacher
from tests.backbones.test_adapters import KINDS, move
from tests.tiny import random_crops, tiny_backbone, tiny_head

IMAGES = torch.linspace(0, 1, 2 * 3 * 32 * 48).view(2, 3, 32, 48)
MARKING = [BitFit(), LastBlocks(1), Full()]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
marking_kinds = pytest.mark.parametrize("kind", MARKING, ids=str)
both = pytest.mark.parametrize("whose", ["student", "teacher"])


def pretrained(monkeypatch: pytest.MonkeyPatch, kind: Adapter, fitted: bool = True, **fit: str) -> ContinualPretraining:
    """A module after three optimiser steps of three times two, or after three more from a checkpoint."""
    seed_everything(0)
    optimisation = Optimisation(lr=1e-2, lr_batch=None, warmup=0.0, head_warmup=0.0, freeze_last_layer=0, momentum=0.5)
    module = ContinualPretraining(tiny_backbone(monkeypatch), kind, tiny_head(), optimisation=optimisation)
    if fitted:
        trainer = Trainer(
            max_steps=6 if fit else 3, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader([random_crops(4, seed=i) for i in range(3)], batch_size=None), **fit)
    return module


def backbone_of(module: ContinualPretraining, whose: str) -> Backbone:
    return (module.student if whose == "student" else module.teacher.network).backbone


def tokens(backbone: Backbone) -> Tensor:
    with torch.no_grad():
        features = backbone(IMAGES)
    return torch.cat((features.cls[:, None], features.patches), 1)


def off(backbone: Backbone) -> Tensor:
    with backbone.adapters_off():
        return tokens(backbone)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    return tokens(tiny_backbone(monkeypatch))


@every_kind
def test_off_is_the_bare_model_in_student_and_teacher_fresh_and_resumed(kind, bare, monkeypatch, tmp_path):
    fresh = pretrained(monkeypatch, kind)
    fresh.trainer.save_checkpoint(tmp_path / "x.ckpt")
    resumed = pretrained(monkeypatch, kind, ckpt_path=str(tmp_path / "x.ckpt"))
    assert resumed.global_step == 6
    for module in (fresh, resumed):
        for backbone in (module.student.backbone, module.teacher.network.backbone):
            adapted = tokens(backbone)
            assert not torch.allclose(adapted, bare, atol=1e-4)
            assert torch.equal(off(backbone), bare)
            assert torch.equal(tokens(backbone), adapted)


@both
@every_kind
def test_what_one_network_is_asked_for_leaves_the_other_alone(kind, whose, bare, monkeypatch, tmp_path):
    """Off, saved, restored, another adapter put in and out again, in student or teacher."""
    module = pretrained(monkeypatch, kind)
    asked = backbone_of(module, whose)
    other = backbone_of(module, "teacher" if whose == "student" else "student")
    adapted, untouched = tokens(asked), tokens(other)
    asked.save_adapter(tmp_path / "own", 3, "teacher")
    assert restores(asked, IMAGES) and torch.equal(tokens(asked), bare)
    asked.load_adapter(tmp_path / "own")
    assert torch.equal(tokens(asked), adapted)
    assert torch.equal(off(asked), bare)
    asked.uninstall()
    for another in (UniAdapter(rank=4), LoRA(rank=2), Full()):
        asked.install(another)
        move(asked)
        assert torch.equal(off(asked), bare)
        asked.uninstall()
    assert torch.equal(tokens(asked), bare)
    assert torch.equal(tokens(other), untouched) and torch.equal(off(other), bare)


@both
@pytest.mark.parametrize("kind", [LoRA(rank=2), SLR(rank=2)], ids=str)
def test_merging_one_network_leaves_the_other_alone(kind, whose, bare, monkeypatch):
    module = pretrained(monkeypatch, kind)
    merged = backbone_of(module, whose)
    other = backbone_of(module, "teacher" if whose == "student" else "student")
    adapted, untouched = tokens(merged), tokens(other)
    merged.merge()
    assert torch.allclose(tokens(merged), adapted, atol=1e-5)
    assert torch.equal(tokens(other), untouched) and torch.equal(off(other), bare)


@every_kind
def test_off_may_be_nested(kind, bare, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(kind)
    move(backbone)
    adapted = tokens(backbone)
    with backbone.adapters_off():
        assert torch.equal(off(backbone), bare)
        assert torch.equal(tokens(backbone), bare)
    assert torch.equal(tokens(backbone), adapted)


@every_kind
def test_off_survives_a_deep_copy(kind, bare, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(kind)
    move(backbone)
    replica = copy.deepcopy(backbone)
    adapted = tokens(backbone)
    assert torch.equal(tokens(replica), adapted) and torch.equal(off(replica), bare)
    move(replica)
    assert torch.equal(tokens(backbone), adapted)


@marking_kinds
def test_off_survives_a_pickle(kind, bare, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(kind)
    move(backbone)
    replica = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(tokens(replica), tokens(backbone)) and torch.equal(off(replica), bare)


@every_kind
def test_nothing_to_turn_off_or_to_take_out_raises(kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.adapter = kind  # as if installed
    with pytest.raises(ValueError, match="found none"), backbone.adapters_off():
        pass
    with pytest.raises(ValueError, match="found none"):
        backbone.uninstall()
    if isinstance(kind, LoRA | SLR):
        with pytest.raises(ValueError, match="found none"):
            backbone.merge()


@pytest.mark.parametrize("kind", [BitFit(), LastBlocks(1), LoRA(targets=())], ids=str)
def test_a_kind_that_marks_nothing_raises_and_leaves_nothing_behind(kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    if kind != LoRA(targets=()):
        backbone.trunk.blocks = torch.nn.Sequential()
    with pytest.raises(ValueError, match=r"matches nothing|expected first_block"):
        backbone.install(kind)
    assert not any(isinstance(module, FrozenValues) for module in backbone.modules())


@marking_kinds
def test_frozen_values_are_in_no_state_dict_checkpoint_or_file(kind, monkeypatch, tmp_path):
    backbone = tiny_backbone(monkeypatch)
    names, hashed = set(backbone.state_dict()), backbone.weight_hash
    backbone.install(kind)
    assert set(backbone.state_dict()) == names and backbone.weight_hash == hashed
    module = pretrained(monkeypatch, kind)
    module.trainer.save_checkpoint(tmp_path / "x.ckpt")
    held = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert not any("frozen_values" in name for name in held)
    trained = {f"student.{name}" for name, _ in module.student.backbone.named_parameters(prefix="backbone")}
    marked = {f"student.backbone.{name}" for name in module.student.backbone.adapter_names}
    assert trained & held.keys() == marked


@marking_kinds
def test_student_and_teacher_share_the_frozen_values_also_after_a_move(kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(kind)
    student = Network(backbone, tiny_head()(32), None)
    pair = torch.nn.ModuleList([student, Teacher(student)])
    for moved in (pair, pair.to(torch.float64), pair.to("meta")):
        values = [module for module in moved.modules() if isinstance(module, FrozenValues)]
        assert len(values) == 1 and student.backbone.trunk.frozen_values is pair[1].network.backbone.trunk.frozen_values
        for name, value in values[0].items():
            parameter = student.backbone.trunk.get_parameter(name)
            assert (value.dtype, value.device) == (parameter.dtype, parameter.device), name


@marking_kinds
def test_ddp_does_not_broadcast_frozen_values(kind, monkeypatch, tmp_path: Path):
    module = pretrained(monkeypatch, kind, fitted=False)
    names = frozen_buffers(module)
    assert len(names) == len(module.student.backbone.adapter_names)
    assert {name for name, _ in module.named_buffers()} > set(names)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        replicated = DistributedDataParallel(module)
        replicated._assign_modules_buffers()  # as before each forward
        broadcast = set(replicated.named_module_buffers)
    finally:
        distributed.destroy_process_group()
    assert broadcast == {name for name, _ in module.named_buffers()} - set(names)
