"""A folder of images, packed into chunks and streamed: the same views as from the files, each image once an epoch."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from datamodules.sampling.splits import subsample
from datamodules.streaming import StreamingDataModule, _decoded, main, write_chunks
from datamodules.transforms.multi_crop import MultiViewCrop
from datamodules.views import Crops
from src.core.errors import UserError
from tests.datamodules.pictures import gradient, save


class Recorder(LightningModule):
    """Trains nothing; keeps its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Crops] = []

    def training_step(self, batch: Crops, batch_idx: int) -> Tensor:
        self.seen.append(batch)
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Twelve images of different content, suffix and size in chunks of a few."""
    folder, chunks = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("chunks")
    for i in range(12):
        pixels = gradient(20 + i, 30)
        pixels[..., 2] = i * 20
        save(folder / f"sub {i % 2}" / f"{i}.{('png', 'bmp', 'tif')[i % 3]}", pixels)
    method = multiprocessing.get_start_method()
    main([str(folder), str(chunks), "--chunk-bytes", "8KB", "--workers", "1"])
    assert multiprocessing.get_start_method() == method
    return folder, chunks


def fit(folder: Path, chunks: Path, steps: int, resume: Path | None = None) -> list[Crops]:
    """Batches of three, four an epoch, with a checkpoint after each."""
    module, saver = Recorder(), ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, callbacks=[saver], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    ).fit(
        module, StreamingDataModule(str(chunks), batch_size=3, size=16, num_workers=0, seed=5), ckpt_path=resume,
        weights_only=False,
    )  # fmt: skip
    return module.seen


def keys(batches: list[Crops]) -> list[tuple[int, int]]:
    return [(int(e), int(i)) for batch in batches for e, i in zip(batch.epoch, batch.indices, strict=True)]


@pytest.mark.slow
def test_each_epoch_has_every_image_once_with_the_views_that_its_key_says(
    packed: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, chunks = packed
    assert len(list(chunks.glob("*.bin"))) > 2
    seen = fit(tmp_path / "a", chunks, 8)
    first, second = ([index for e, index in keys(seen) if e == epoch] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12)) and first != second
    files, crop = list_images(folder), MultiViewCrop(16, seed=5)
    for batch in seen:
        for b, (epoch, index) in enumerate(zip(batch.epoch.tolist(), batch.indices.tolist(), strict=True)):
            for v, view in enumerate(crop(read_image(files[index]), epoch, index)[0]):
                np.testing.assert_array_equal(batch.global_views.images[v, b].permute(1, 2, 0), view.image)
    for step in (2, 4, 6):  # within an epoch, at its end, in a later one
        rest = fit(tmp_path / f"b{step}", chunks, 8, tmp_path / "a" / f"step={step}.ckpt")
        assert keys(rest) == keys(seen[step:])


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_chunks_from_elsewhere_pass_through_the_cache(
    packed: tuple[Path, Path], tmp_path: Path, num_workers: int
) -> None:
    """Behave as litdata does with an object store, with a folder in its place."""
    data = StreamingDataModule(
        f"local:{packed[1]}", batch_size=3, size=16, num_workers=num_workers, cache_folder=str(tmp_path / "kept")
    )
    assert sorted(i for batch in data.train_dataloader() for i in batch.indices.tolist()) == list(range(12))
    assert list((tmp_path / "kept").rglob("index.json"))


@pytest.mark.parametrize("seed", [0, 1])
def test_max_images_draws_the_same_images_as_from_the_folder(packed: tuple[Path, Path], seed: int) -> None:
    drawn = {}
    for count in (3, 7, 12, 20):
        data = StreamingDataModule(
            str(packed[1]), batch_size=1, size=16, num_workers=0, seed=seed, max_images=count
        )  # fmt: skip
        drawn[count] = [i for batch in data.train_dataloader() for i in batch.indices.tolist()]
    assert {count: sorted(found) for count, found in drawn.items()} == {
        count: subsample(12, count) for count in (3, 7, 12, 20)
    }
    assert drawn[7] != sorted(drawn[7])  # shuffled all the same
    with pytest.raises(UserError, match="max_images: expected at least 1, or null for all, found 0"):
        StreamingDataModule(str(packed[1]), max_images=0)


def test_a_bad_file_is_named_as_it_was_called() -> None:
    with pytest.raises(ImageError, match=r"^some/where\.png: expected an image, found"):
        _decoded("some/where.png", b"no image")


def test_a_folder_without_chunks_is_answered_with_the_command_that_writes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected chunks with an index\.json, found none; python -m"):
        StreamingDataModule(str(tmp_path)).train_dataloader()


def test_less_than_a_batch_is_refused(packed: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="expected enough images for a batch of 13 in each process, found 12"):
        StreamingDataModule(str(packed[1]), batch_size=13, size=16, num_workers=0).train_dataloader()


def test_chunks_are_not_mixed_with_older_ones(packed: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"expected a folder without chunks, found an index\.json"):
        write_chunks(packed[0], str(packed[1]))


@pytest.mark.slow
def test_clean_views_are_those_of_the_first_epoch_without_colour_changes(packed: tuple[Path, Path]) -> None:
    folder, chunks = packed
    batches = list(StreamingDataModule(str(chunks), batch_size=3, size=16, num_workers=0, seed=5).clean_views(5))
    assert [len(batch.indices) for batch in batches] == [3, 3]
    files, crop = list_images(folder), MultiViewCrop(16, seed=5, photometric=False)
    for batch in batches:
        for b, index in enumerate(batch.indices.tolist()):
            views, _ = crop(read_image(files[index]), 0, index)
            for v, view in enumerate(views):
                assert np.array_equal(batch.global_views.images[v, b].permute(1, 2, 0).numpy(), view.image)
