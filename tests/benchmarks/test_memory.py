"""Counting a step's memory: what is counted is what is there, by the sizes of tensors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from src.config.defaults import completed
from src.config.yaml_reader import read

ROOT = Path(__file__).parents[2]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import memory  # type: ignore[import-not-found]

    monkeypatch.setattr(memory.cross_entropy, "_BLOCK_ELEMENTS", dict(memory.cross_entropy._BLOCK_ELEMENTS))
    return memory


def pretraining(batch: int, **acceleration: bool) -> Any:
    config = completed(read(ROOT / "experiments/pretrain/ade20k/glare.yaml"))
    model = config["model"]["init_args"]
    model["backbone"]["init_args"]["name"] = "test_vit"
    model["head"]["init_args"] |= {"hidden": 16, "prototypes": 32, "bottleneck": 8}
    model["acceleration"]["init_args"] |= acceleration
    config["data"]["init_args"] |= {"batch_size": batch, "size": 160}
    return config


@pytest.mark.slow
def test_checkpointed_blocks_take_less_and_the_batch_is_there_between_steps(memory: ModuleType) -> None:
    before, most = memory.peak(pretraining(16))
    batch = 16 * 2 * 3 * 160 * 160 / 2**30  # two views, uint8
    assert batch < before < 3 * batch and most > 2 * before
    assert memory.peak(pretraining(16, checkpoint_blocks=True))[1] < 0.9 * most


def test_a_tensor_is_counted_once_and_until_it_is_freed(memory: ModuleType) -> None:
    torch = memory.torch
    with memory.FakeTensorMode(), memory.Storages() as storages:
        first = torch.empty(1024)
        view = first.view(32, 32)
        assert storages.now == 4096
        second = view + 1
        assert storages.now == storages.peak == 8192
        del first
        assert storages.now == 8192
        del view, second
        assert storages.now == 0 and storages.peak == 8192
