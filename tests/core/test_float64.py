"""Devices without float64, as Apple GPUs: draws and training steps make none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from datamodules.batches import SegmentationBatch
from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.keyed_random import KeyedRandom
from src.evaluation.rank import effective_rank
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.patch_augmentation import Blur, Grey, Mask, Noise, PatchAugmentation, Shuffle
from src.pretraining.regions import Grid, MostAttended, Uniform
from src.pretraining.targets import Centring, SinkhornKnopp
from src.segmentation import SemanticSegmentation
from tests.pretraining.test_module import FAST, batches
from tests.tiny import TINY, tiny_backbone, tiny_head


class WithoutFloat64(TorchDispatchMode):
    """Refuses every tensor of float64, as an Apple GPU does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in tree_leaves(made)):
            raise TypeError(f"{func}: this device has no float64")
        return made


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> WithoutFloat64:
    monkeypatch.setattr("src.core.keyed_random.has_float64", lambda device: False)
    return WithoutFloat64()


def test_the_stand_in_refuses_what_an_apple_gpu_refuses(without: WithoutFloat64) -> None:
    with pytest.raises(TypeError, match="no float64"), without:
        torch.ones(2).double()


def test_draws_are_the_same_numbers_cut_to_24_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = KeyedRandom(3, torch.tensor([0, 1]), torch.tensor([7, 11]))
    weights = torch.rand(2, 3, 50)

    def drawn() -> tuple[torch.Tensor, ...]:
        numbers = draws.uniform("a", 1000), draws.integers("b", 9, 1000), draws.normal("c", 1000)
        return *numbers, draws.choice("d", weights)

    exact = drawn()
    monkeypatch.setattr("src.core.keyed_random.has_float64", lambda device: False)
    with WithoutFloat64():
        cut = (
            draws.uniform("a", 1000),
            draws.integers("b", 9, 1000),
            draws.normal("c", 1000),
            draws.choice("d", weights),
        )
    assert cut[0].dtype == cut[2].dtype == torch.float32
    assert torch.equal(cut[0].double(), (exact[0] * 2**24).floor() / 2**24) and cut[0].max() < 1
    assert torch.equal(cut[1], exact[1]) and torch.equal(cut[3], exact[3])
    torch.testing.assert_close(cut[2].double(), exact[2], atol=1e-4, rtol=1e-3)


def trained(module: LightningModule, loader: DataLoader, folder: Path) -> Trainer:
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, loader)
    return trainer


@pytest.mark.parametrize("augmentation", [Blur(), Grey(), Mask(), Noise(), Shuffle()], ids=lambda a: type(a).__name__)
def test_pre_training_steps_make_no_float64_whatever_the_augmentation(
    augmentation: PatchAugmentation, without: WithoutFloat64, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = ContinualPretraining(
        tiny_backbone(monkeypatch), UniAdapter(rank=4), tiny_head(), optimisation=FAST, patch_augmentation=augmentation
    )
    with without:
        assert trained(module, batches(2, local=2), tmp_path).global_step == 2


@pytest.mark.parametrize("sampling", [MostAttended(), Uniform(), Grid()], ids=lambda s: type(s).__name__)
def test_nor_with_other_samplers_targets_and_anchors(
    sampling: object, without: WithoutFloat64, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objectives = {
        "global": GlobalConsistency(targets=SinkhornKnopp()),
        "regional": RegionalConsistency(targets=Centring(), regions=sampling),  # type: ignore[arg-type]
        "local": LocalConsistency(targets=SinkhornKnopp(), patches=3),
        "cosine": CosineAnchor(),
        "gram": GramAnchor(),
    }
    module = ContinualPretraining(
        tiny_backbone(monkeypatch), LoRA(rank=2), tiny_head(), objectives=objectives, optimisation=FAST
    )
    with without:
        assert trained(module, batches(2), tmp_path).global_step == 2


@pytest.mark.parametrize("loss_grid", ["pixels", "decoder"])
def test_segmentation_steps_make_none(loss_grid: str, without: WithoutFloat64, tmp_path: Path) -> None:
    module = SemanticSegmentation(
        Backbone(TINY, "none"),
        3,
        train="everything",
        drop_path=0.1,
        loss_grid=loss_grid,  # type: ignore[arg-type]
    )
    images = torch.randint(0, 256, (2, 3, 32, 32)).to(torch.uint8)
    batch = SegmentationBatch(images, torch.randint(0, 3, (2, 32, 32)), torch.arange(2), ["a", "b"])
    with without:
        assert trained(module, DataLoader([batch, batch], batch_size=None), tmp_path).global_step == 2


def test_statistics_that_need_float64_move_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.device] = []
    features = torch.rand(20, 8)
    expected = effective_rank(features)
    monkeypatch.setattr("src.core.float64.has_float64", lambda device: moved.append(device) or False)
    assert effective_rank(features) == expected and moved
