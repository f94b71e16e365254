"""Explanations at the end of a pre-training: files, texts and loggers, and no trace in the run's random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import nn

from src.backbones.adapters import Adapter, BitFit, LoRA, UniAdapter
from src.callbacks.explanations import Explanations
from src.explanation.explaining import Explainer
from src.pretraining import ContinualPretraining
from tests.tiny import tiny_backbone, tiny_head


class Images:
    """A data module as the callback sees it."""

    asked: list[int]

    def __init__(self) -> None:
        self.asked = []

    def source(self, split: str) -> Any:
        return self

    def __len__(self) -> int:
        return 9

    def image(self, index: int) -> np.ndarray:
        self.asked.append(index)
        return np.random.default_rng(index).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def trainer(folder: Path, data: Any, loggers: list[Any] | None = None) -> Any:
    return SimpleNamespace(
        datamodule=data, default_root_dir=str(folder), loggers=loggers or [], fast_dev_run=False, global_step=7
    )


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ContinualPretraining:
    monkeypatch.setattr("src.explanation.explaining.SIDE", 96)
    return ContinualPretraining(tiny_backbone(monkeypatch), UniAdapter(rank=4), tiny_head())


def test_pictures_and_their_texts_lie_in_the_run_folder(model: ContinualPretraining, tmp_path: Path) -> None:
    data, state = Images(), torch.get_rng_state()
    Explanations(count=2).on_fit_end(trainer(tmp_path, data), model)
    assert data.asked == [0, 8]  # spread over the set
    assert torch.equal(torch.get_rng_state(), state)
    texts = json.loads((tmp_path / "explanations" / "explanations.json").read_text())
    assert [text["file"] for text in texts] == sorted_as_drawn(2)
    assert all((tmp_path / "explanations" / text["file"]).is_file() and text["spoken"] for text in texts)
    assert "the teacher's cross-attention" in texts[2]["spoken"]


@pytest.mark.parametrize("kind", [UniAdapter(rank=4), LoRA(rank=2), BitFit()], ids=lambda kind: type(kind).__name__)
def test_the_adapter_is_drawn_as_it_is_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Adapter) -> None:
    monkeypatch.setattr("src.explanation.explaining.SIDE", 96)
    model = ContinualPretraining(tiny_backbone(monkeypatch), kind, tiny_head(), strength=0.5)
    teacher = model.teacher.network.backbone
    torch.manual_seed(0)
    for name in teacher.adapter_names:
        teacher.get_parameter(name).data.normal_()
    before = {name: teacher.get_parameter(name).clone() for name in teacher.adapter_names}
    Explanations(count=1).on_fit_end(trainer(tmp_path, Images()), model)
    assert all(torch.equal(teacher.get_parameter(name), tensor) for name, tensor in before.items())
    drawn = np.asarray(Image.open(tmp_path / "explanations" / "features-1.png"))
    (whole, *_) = Explainer(teacher, model.teacher.network.context).explain([Images().image(0)])
    assert not np.array_equal(drawn, np.asarray(whole.picture))
    model.save_adapter(tmp_path / "adapter.safetensors")
    teacher.load_adapter(tmp_path / "adapter.safetensors")
    (saved, *_) = Explainer(teacher, model.teacher.network.context).explain([Images().image(0)])
    np.testing.assert_array_equal(drawn, np.asarray(saved.picture))


def sorted_as_drawn(images: int) -> list[str]:
    kinds = ("features", "attention", "regions", "matches")
    return [*(f"{kind}-{image + 1}.png" for image in range(images) for kind in kinds), "neighbours.png"]


def test_tensorboard_gets_them_too(model: ContinualPretraining, tmp_path: Path) -> None:
    logged: dict[str, Any] = {}

    class Board(TensorBoardLogger):
        experiment = SimpleNamespace(add_image=lambda name, picture, step, dataformats: logged.update({name: picture}))

    Explanations(count=1).on_fit_end(trainer(tmp_path, Images(), [Board(tmp_path)]), model)
    assert set(logged) == {f"explanations/{name.removesuffix('.png')}" for name in sorted_as_drawn(1)}


@pytest.mark.parametrize("data", [None, SimpleNamespace()])
def test_what_has_no_single_images_is_left_alone(model: ContinualPretraining, tmp_path: Path, data: Any) -> None:
    Explanations().on_fit_end(trainer(tmp_path, data), model)
    Explanations().on_fit_end(trainer(tmp_path, Images()), nn.Identity())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_no_image_is_no_explanation() -> None:
    with pytest.raises(ValueError, match="count of at least 1, found 0"):
        Explanations(count=0)
