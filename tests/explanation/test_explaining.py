"""The five pictures: whole, with a text each, and without a difference where nothing was learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.explanation.drawing import TITLE
from src.explanation.explaining import Explainer, Explanation, corners, distinct_peaks, pixel_box
from src.pretraining.regions import RegionalAttention
from tests.tiny import tiny_backbone

IMAGES = [np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8) for seed in range(2)]


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    monkeypatch.setattr("src.explanation.explaining.SIDE", 128)
    found = tiny_backbone(monkeypatch)
    found.install(UniAdapter(rank=4))
    return found


def explained(backbone: Backbone, context: RegionalAttention | None = None) -> dict[str, Explanation]:
    return {item.name: item for item in Explainer(backbone, context).explain(IMAGES)}


def halves(picture: Image.Image, rows: int) -> list[np.ndarray]:
    """Equally high rows of a sheet, below their titles."""
    pixels = np.asarray(picture)
    height = (len(pixels) - 8) // rows
    return [pixels[row * height + TITLE : (row + 1) * height] for row in range(rows)]


def test_an_untouched_adapter_changes_no_picture(backbone: Backbone) -> None:
    found = explained(backbone)
    assert list(found) == [
        *(f"{kind}-{image}" for image in (1, 2) for kind in ("features", "attention", "regions", "matches")),
        "neighbours",
    ]
    assert all(item.spoken and item.title for item in found.values())
    for name, rows in (("attention-1", 2), ("matches-2", 2)):
        before, after = halves(found[name].picture, rows)
        assert np.array_equal(before, after)
    for before, after in zip(*[iter(halves(found["neighbours"].picture, 6))] * 2, strict=True):
        assert np.array_equal(before, after)


def test_what_was_learnt_shows(backbone: Backbone) -> None:
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.normal_()
    before, after = halves(explained(backbone)["attention-1"].picture, 2)
    assert not np.array_equal(before, after)


def test_regions_say_whose_attention_they_look_through(backbone: Backbone) -> None:
    own, taught = explained(backbone), explained(backbone, RegionalAttention(backbone.width, noise=1.0))
    assert "untrained cross-attention" in own["regions-1"].spoken
    assert "the teacher's cross-attention" in taught["regions-1"].spoken
    assert not np.array_equal(own["regions-1"].picture, taught["regions-1"].picture)


def test_boxes_are_those_of_the_masks() -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1:3, 2:5] = True
    assert corners(mask.flatten(1), (4, 5)) == [(1, 2, 3, 5)]
    assert pixel_box((1, 2, 3, 5), 10) == (20, 10, 50, 30)


def test_peaks_keep_apart() -> None:
    values = torch.zeros(6, 6)
    values[0, 0], values[0, 1], values[5, 5] = 3, 2, 1
    assert distinct_peaks(values, 2) == [(0, 0), (5, 5)]
    assert len(distinct_peaks(torch.zeros(2, 2), 3)) == 1
