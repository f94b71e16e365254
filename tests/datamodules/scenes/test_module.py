"""Scenes are reproducible, hold every class, and cannot be told apart by colour alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from datamodules.scenes.module import CLASSES, PaintedScenes, ScenesDataModule
from src.core.errors import UserError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def scenes() -> list[Pair]:
    source = PaintedScenes(24, 128, seed=0, split="train")
    return [source.pair(i) for i in range(24)]


def test_a_scene_depends_on_seed_split_and_index_alone(scenes: list[Pair]) -> None:
    image, mask = PaintedScenes(5, 128, seed=0, split="train").pair(3)  # fewer scenes, drawn in another order
    np.testing.assert_array_equal(image, scenes[3][0])
    np.testing.assert_array_equal(mask, scenes[3][1])
    others = PaintedScenes(5, 128, 0, "val").image(3), PaintedScenes(5, 128, 1, "train").image(3), scenes[4][0]
    assert not any(np.array_equal(image, other) for other in others)


def test_every_class_has_its_share(scenes: list[Pair]) -> None:
    shares = np.bincount(np.concatenate([mask.ravel() for _, mask in scenes]), minlength=7) / (24 * 128 * 128)
    low = {"soil": 0.03, "field": 0.2, "meadow": 0.08, "road": 0.02, "building": 0.008, "water": 0.02, "tree": 0.04}
    assert list(low) == list(CLASSES)
    for name, share in zip(CLASSES, shares, strict=True):
        assert low[name] < share < 0.65, f"{name}: {share:.3f}"


def test_colour_helps_but_is_not_enough(scenes: list[Pair]) -> None:
    colours = np.concatenate([image.reshape(-1, 3)[::40] for image, _ in scenes]) / 255
    classes = np.concatenate([mask.ravel()[::40] for _, mask in scenes])
    half = len(colours) // 2
    features = np.hstack([colours, colours**2, colours[:, [0, 1, 2]] * colours[:, [1, 2, 0]]])
    fitted = LogisticRegression(max_iter=300, class_weight="balanced").fit(features[:half], classes[:half])
    recall = [np.mean(fitted.predict(features[half:][classes[half:] == c]) == c) for c in range(7)]
    assert 1.5 / 7 < np.mean(recall) < 0.75


def test_fields_have_rows_and_soil_has_none(scenes: list[Pair]) -> None:
    """Rows are a peak in the spectrum: one frequency holds more of a field's power than of soil's."""
    peaks: dict[int, list[float]] = {0: [], 1: []}
    for image, mask in scenes:
        grey = image.mean(-1)
        for y in range(0, 128 - 24, 12):
            for x in range(0, 128 - 24, 12):
                window = mask[y : y + 24, x : x + 24]
                if window[0, 0] in peaks and (window == window[0, 0]).all():
                    patch = grey[y : y + 24, x : x + 24]
                    power = np.abs(np.fft.rfft2((patch - patch.mean()) * np.outer(np.hanning(24), np.hanning(24)))) ** 2
                    power[:3, :3] = power[-2:, :3] = 0  # slow changes of brightness
                    peaks[int(window[0, 0])].append(float(power.max() / power.sum()))
    assert min(len(p) for p in peaks.values()) > 10
    assert np.median(peaks[1]) > 1.5 * np.median(peaks[0])


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 96, 200])
def test_other_sizes_are_painted_too(side: int) -> None:
    for index in range(6):  # with and without water
        image, mask = PaintedScenes(6, side, 0, "train").pair(index)
        assert image.shape == (side, side, 3) and mask.shape == (side, side)
        assert image.dtype == mask.dtype == np.uint8 and mask.max() < 7


def test_a_world_without_a_seed_is_refused() -> None:
    with pytest.raises(UserError, match="world: expected a finite number of at least 0, found -1"):
        ScenesDataModule(world=-1)


def test_images_of_a_set_differ_in_light(scenes: list[Pair]) -> None:
    means = np.array([image.mean() for image, _ in scenes])
    assert means.std() > 10


def test_the_data_module_serves_both_jobs() -> None:
    views = ScenesDataModule(6, 5, side=64, size=32, batch_size=3, num_workers=0)
    assert len(list(views.train_dataloader())) == 2
    pairs = ScenesDataModule(6, 5, side=64, size=28, task="segment", batch_size=3, num_workers=0)
    (first, second) = pairs.val_dataloader()
    assert [*first.names, *second.names] == [f"val/0000{i}.png" for i in range(5)]
    np.testing.assert_array_equal(first.masks[1], PaintedScenes(5, 64, 0, "val").pair(1)[1])
    assert pairs.num_classes == len(pairs.palette) == 7


def test_a_runs_seed_leaves_the_scenes_as_they_are() -> None:
    one, two = (ScenesDataModule(2, 1, side=48, size=32, seed=s).source("train").image(1) for s in (0, 1))
    np.testing.assert_array_equal(one, two)
    other = ScenesDataModule(2, 1, side=48, size=32, world=1).source("train").image(1)
    assert not np.array_equal(one, other)
