"""The teacher's invariants, by value and by storage."""

import pytest
import torch

from src.backbones.adapters import BitFit, LoRA, UniAdapter
from src.pretraining.network import Network
from src.pretraining.regions import RegionalAttention
from src.pretraining.teacher import Teacher
from tests.tiny import tiny_backbone, tiny_head


@pytest.fixture(params=[UniAdapter(rank=4), LoRA(rank=2), BitFit()], ids=str)
def pair(request, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(request.param)
    student = Network(backbone, tiny_head()(32), RegionalAttention(32))
    return student, Teacher(student)


def named(module):
    return dict(module.named_parameters(remove_duplicate=False))


def test_what_trains_is_equal_at_the_start_in_storage_of_its_own_and_what_is_frozen_is_shared(pair):
    student, teacher = pair
    ours, theirs = named(student), named(teacher.network)
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert torch.equal(parameter, theirs[name])
        assert (parameter is theirs[name]) == (not parameter.requires_grad), name
        assert (parameter.data_ptr() == theirs[name].data_ptr()) == (not parameter.requires_grad), name
    assert not any(parameter.requires_grad for parameter in theirs.values())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_an_update_moves_each_tensor_by_one_minus_m_times_the_difference(pair, momentum):
    student, teacher = pair
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    before = {name: parameter.clone() for name, parameter in named(teacher.network).items()}
    teacher.update(student, momentum)
    for name, parameter in named(student).items():
        expected = before[name] + (1 - momentum) * (parameter - before[name])
        assert torch.allclose(named(teacher.network)[name], expected, atol=1e-6), name


def test_the_teacher_never_trains(pair):
    _student, teacher = pair
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    branch = teacher(torch.rand(2, 1, 3, 32, 32), 0.05)
    assert not branch.features.patches.requires_grad and branch.temperature == 0.05
