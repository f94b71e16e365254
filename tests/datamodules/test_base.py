"""One class for both jobs: batches, splits, memory, several processes, and going on where a run was interrupted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.batches import SegmentationBatch
from datamodules.folder import FolderDataModule
from datamodules.reading.errors import ImageError
from datamodules.reading.paired_folders import PairedFolders
from datamodules.reading.sources import Cached, Source
from datamodules.transforms.segmentation import TrainingTransforms
from datamodules.views import Crops
from tests.datamodules.pictures import gradient, labelled_folder, save


class Thirds(PairedFolders):
    CLASSES: ClassVar = {"left": (1, 0, 0), "middle": (0, 1, 0), "right": (0, 0, 1)}
    LABELS: ClassVar = {0: 0, 1: 1, 2: 2}


class Noise:
    """Images of noise, each its own."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        return f"{index}"

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.random.default_rng(index).integers(0, 256, (12, 12, 3), np.uint8)

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.image(index), np.zeros((12, 12), np.uint8)


class NoiseData(DomainDataModule):
    @property
    def class_names(self) -> list[str]:
        return ["noise"]

    @property
    def palette(self) -> list[Colour]:
        return [(0, 0, 0)]

    def read(self, split: Split) -> Source:
        return Noise(22)


def test_crops_carry_images_boxes_and_keys() -> None:
    data = NoiseData(batch_size=4, size=8, local_views=3, local_size=6, num_workers=0)
    crops = next(iter(data.train_dataloader()))
    assert crops.global_views.images.shape == (2, 4, 3, 8, 8) and crops.global_views.images.dtype == torch.uint8
    assert crops.local_views is not None and crops.local_views.images.shape == (3, 4, 3, 6, 6)
    assert crops.indices.dtype == crops.epoch.dtype == torch.int64
    crop = data.train_dataloader().dataset.crop  # type: ignore[attr-defined]
    for b, index in enumerate(crops.indices.tolist()):
        for v, view in enumerate(crop(Noise(22).image(index), 0, index)[0]):
            np.testing.assert_array_equal(crops.global_views.images[v, b].permute(1, 2, 0), view.image)
            np.testing.assert_allclose(crops.global_views.boxes[v, b], view.box, rtol=1e-6)
            assert bool(crops.global_views.flips[v, b]) == view.flip


def test_a_set_smaller_than_the_batch_is_one_batch_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loader = NoiseData(batch_size=64, size=8, num_workers=0).train_dataloader()
    assert "22 images for 1 processes: using batch size 22 instead of 64" in caplog.text
    (crops,) = loader
    assert sorted(crops.indices.tolist()) == list(range(22))


def test_training_pairs_have_one_size_and_evaluation_keeps_native_masks(tmp_path: Path) -> None:
    data = Thirds(labelled_folder(tmp_path), task="segment", batch_size=3, size=(8, 12), num_workers=0)
    training: SegmentationBatch = next(iter(data.train_dataloader()))
    assert isinstance(training.masks, Tensor)
    expected = torch.tensor([0] * 4 + [1] * 4 + [2] * 4).expand(8, 12)
    assert training.masks.dtype == torch.int64 and all(torch.equal(mask, expected) for mask in training.masks)
    assert training.images.shape == (3, 3, 8, 12)
    (evaluation,) = data.val_dataloader()
    assert [mask.shape for mask in evaluation.masks] == [(24, 32)] * 3
    assert evaluation.names == [f"images/val/00{i}.png" for i in range(3)]
    assert evaluation.images[:, 2].float().mean((1, 2)).round().tolist() == [0, 1, 2]  # blue says which image it is


def test_training_images_go_through_the_transforms_and_evaluation_does_not(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path, train=3)
    data = Thirds(root, task="segment", size=(8, 12), transforms=TrainingTransforms((10, 16)), num_workers=0, seed=3)
    dataset = data.train_dataloader().dataset
    for epoch, index in ((0, 0), (5, 2)):
        sample = dataset[(epoch, index)]
        image, mask = data.source("train").pair(index)
        expected = TrainingTransforms((10, 16))(image, mask, np.random.default_rng([3, epoch, index]))
        np.testing.assert_array_equal(sample.image.permute(1, 2, 0), expected[0])
        np.testing.assert_array_equal(sample.mask, expected[1])
    (batch,) = data.val_dataloader()
    assert batch.images.shape[-2:] == (8, 12)


def test_the_holdout_is_a_fixed_fifth_that_is_not_trained_on(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path, train=10)

    def names(data: DomainDataModule, split: Split) -> list[str]:
        source = data.source(split)
        return [source.name(i) for i in range(len(source))]

    one, two = (Thirds(root, task="segment", evaluate_on="holdout", seed=s, num_workers=0) for s in (0, 1))
    assert names(one, "val") == names(two, "val") and len(names(one, "val")) == 2
    assert set(names(one, "val")) | set(names(one, "train")) == {f"images/train/{i:03d}.png" for i in range(10)}
    assert not set(names(one, "val")) & set(names(one, "train"))
    assert len(Thirds(root, evaluate_on="holdout").source("train")) == 10  # views need no labels


def test_a_share_of_the_labels_is_nested_and_leaves_validation_and_views_as_they_are(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path, train=20)

    def names(fraction: float, **options: Any) -> set[str]:
        source = Thirds(root, task="segment", label_fraction=fraction, cache=False, **options).source("train")
        return {source.name(i) for i in range(len(source))}

    assert [len(names(share)) for share in (0.01, 0.1, 0.5, 1.0)] == [1, 2, 10, 20]
    assert names(0.01) < names(0.1) < names(0.5) < names(1.0)
    assert names(0.5, seed=1) != names(0.5, seed=0)
    assert len(names(0.5, evaluate_on="holdout")) == 8
    assert len(Thirds(root, task="segment", label_fraction=0.1).source("val")) == 3
    assert len(Thirds(root, label_fraction=0.1).source("train")) == 20
    with pytest.raises(ValueError, match="seed: expected 0 or more, found -1"):
        Thirds(root, seed=-1)
    with pytest.raises(ValueError, match=r"label_fraction: expected a share in \(0, 1\], found 0"):
        Thirds(root, label_fraction=0)


@pytest.mark.parametrize("task", ["pretrain", "segment"])
def test_memory_changes_no_batch_of_small_images(tmp_path: Path, task: Any) -> None:
    root = labelled_folder(tmp_path)
    kept, read = (Thirds(root, task=task, size=16, batch_size=5, num_workers=0, cache=c) for c in (True, False))
    assert isinstance(kept.source("train"), Cached) and not isinstance(read.source("train"), Cached)
    for one, two in zip(kept.train_dataloader(), read.train_dataloader(), strict=True):
        first, second = (b.global_views.images if isinstance(b, Crops) else b.images for b in (one, two))
        assert torch.equal(first, second)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_file_stops_the_run_with_one_readable_line_from_any_process(tmp_path: Path, num_workers: int) -> None:
    root = labelled_folder(tmp_path)
    bad = root / "images" / "train" / "004.png"
    bad.write_bytes(bad.read_bytes()[:60])
    data = Thirds(root, batch_size=10, size=16, num_workers=num_workers, cache=False)
    with pytest.raises(ImageError) as error:
        list(data.train_dataloader())
    assert str(error.value).startswith(f"{bad}: expected an image, found") and "\n" not in str(error.value)


def test_images_smaller_than_a_view_are_warned_of_once(tmp_path: Path) -> None:
    data = Thirds(labelled_folder(tmp_path), batch_size=5, size=64, num_workers=0)
    with pytest.warns(UserWarning, match="32×24 is smaller than a view of 64") as caught:
        (first, _) = data.train_dataloader()
    assert first.global_views.images.shape[-1] == 64 and len(caught) == 1


def test_a_worker_that_warned_keeps_the_other_processes_from_it(tmp_path: Path) -> None:
    loader = Thirds(labelled_folder(tmp_path), batch_size=5, size=64, num_workers=1).train_dataloader()
    list(loader)
    assert bool(loader.dataset.warned)  # type: ignore[attr-defined]


def test_a_rectangle_is_no_view() -> None:
    with pytest.raises(ValueError, match="size: expected the side of a square view"):
        NoiseData(size=(8, 16))
    with pytest.raises(ValueError, match="batch_size: expected at least 1, found 0"):
        NoiseData(batch_size=0)


def test_prediction_gives_each_validation_image_once(tmp_path: Path) -> None:
    data = Thirds(labelled_folder(tmp_path), batch_size=2, size=16, num_workers=0)
    names = [name for batch in data.predict_dataloader() for name in batch.names]
    assert names == [f"images/val/00{i}.png" for i in range(3)]
    assert data.val_dataloader() == []  # there is nothing to validate unlabelled views with


def test_native_evaluation_hands_each_image_over_as_it_is(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path)
    data = FolderDataModule(root, task="segment", size=8, evaluation="native", num_workers=0)
    batches = list(data.val_dataloader())
    assert [len(batch.images) for batch in batches] == [1, 1, 1]
    for index, batch in enumerate(batches):
        image, mask = data.source("val").pair(index)
        np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), image)
        np.testing.assert_array_equal(batch.masks[0], mask)


def test_predict_on_takes_any_folder_and_predict_only_a_part_of_it(tmp_path: Path) -> None:
    for name, size in {"a.png": (9, 5), "b/c.png": (6, 7), "d.png": (4, 4)}.items():
        save(tmp_path / "images" / name, gradient(*size))
    root = labelled_folder(tmp_path / "labelled")
    data = FolderDataModule(root, task="segment", size=8, predict_on=tmp_path / "images", num_workers=0)
    (batch,) = data.predict_dataloader()
    assert batch.names == ["a.png", "b/c.png", "d.png"] and batch.images.shape == (3, 3, 8, 8)
    assert [mask.shape for mask in batch.masks] == [(9, 5), (6, 7), (4, 4)]
    data.predict_only([0, 2])
    data.predict_only([1])
    (batch,) = data.predict_dataloader()
    assert batch.names == ["d.png"]


def test_few_unlabelled_images_lie_among_more_and_do_not_depend_on_the_seed() -> None:
    def names(count: int | None, task: str = "pretrain", seed: int = 0) -> set[str]:
        source = NoiseData(task, size=12, seed=seed, cache=False, max_images=count).source("train")  # type: ignore[arg-type]
        return {source.name(index) for index in range(len(source))}

    assert len(names(5)) == 5
    assert names(5) < names(9) < names(None) == names(100)
    assert names(5) == names(5, seed=1)
    assert names(5, task="segment") == names(None)  # labels have a share of their own
    with pytest.raises(ValueError, match="max_images: expected at least 1, or null for all, found 0"):
        NoiseData(max_images=0)


@pytest.mark.parametrize(("size", "seen"), [((30, 20), (24, 16)), ((20, 30), (16, 24)), ((16, 33), (16, 33))])
def test_native_evaluation_has_the_scale_of_the_training_transforms(
    size: tuple[int, int], seen: tuple[int, int], tmp_path: Path
) -> None:
    for split in ("train", "val"):
        save(tmp_path / "images" / split / "a.png", gradient(*size))
        save(tmp_path / "masks" / split / "a.png", np.zeros(size, np.uint8))
    transforms = TrainingTransforms(16, short_side=16)
    options: Any = {"class_names": ["one", "two"], "task": "segment", "evaluation": "native", "num_workers": 0}
    (image,), (mask,), _, _ = next(iter(FolderDataModule(tmp_path, transforms=transforms, **options).val_dataloader()))
    assert image.shape == (3, *seen) and mask.shape == size
    (image,), _, _, _ = next(iter(FolderDataModule(tmp_path, **options).val_dataloader()))
    assert image.shape == (3, *size)


@pytest.mark.parametrize(("colours", "changed"), [("loader", True), ("none", False)])
def test_views_keep_their_colours_if_asked(colours: Any, changed: bool) -> None:
    class OneColour(NoiseData):
        def read(self, split: Split) -> Source:
            source = Noise(8)
            source.image = lambda index: np.full((12, 12, 3), (200, 40, 90), np.uint8)  # type: ignore[method-assign]
            return source

    data = OneColour(task="pretrain", batch_size=8, size=8, num_workers=0, colours=colours)
    data.setup("fit")
    crops = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    pixels = crops.global_views.images.flatten(-2).movedim(-2, -1).flatten(0, -2)
    assert bool((pixels - torch.tensor([200, 40, 90]) != 0).any()) is changed
