"""Images of a loader of one's own are looked at once, before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batches import SegmentationBatch
from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.segmentation import SemanticSegmentation
from tests.coloured_blocks import trainer
from tests.tiny import TINY


def loader(images: Tensor) -> DataLoader[SegmentationBatch]:
    batch = SegmentationBatch(images, torch.randint(0, 3, (2, 32, 32)), torch.arange(2), ["a", "b"])
    return DataLoader([batch] * 3, batch_size=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("train", ["head", "everything"])
@pytest.mark.parametrize(("low", "high", "advice"), [(0, 255, "divide by 255"), (-2, 2, "which look normalised")])
def test_another_range_is_refused_before_the_first_step(
    train: str, low: float, high: float, advice: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path, max_steps=3)
    module = SemanticSegmentation(Backbone(TINY, "none"), 3, train=train)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=advice):
        run.fit(module, loader(torch.rand(2, 3, 32, 32) * (high - low) + low))
    assert run.global_step == 0


def test_values_are_looked_at_in_the_first_batch_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr("src.segmentation.module.check_range", seen.append)
    trainer(tmp_path, max_steps=3).fit(
        SemanticSegmentation(Backbone(TINY, "none"), 3), loader(torch.rand(2, 3, 32, 32))
    )
    assert len(seen) == 1
