"""Iterate over a loader's data set once and in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from src.core.errors import UserError


def iterate_once(loader: DataLoader[Any], module: LightningModule, title: str, share: bool) -> Iterator[Any]:
    """Batches of all samples of the loader's data set, on the module's device, with a progress bar.

    A training loader shuffles and drops the incomplete last batch, but this must not miss any image.

    Args:
        loader: Its data set, batch size, collation and workers are used, but not its sampler.
        module: Module whose device the batches are moved to.
        title: Title of the progress bar.
        share: Split the samples between ranks, none twice; otherwise each rank gets all.

    Raises:
        UserError: If the data set is a stream, without access by index.
    """
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset):
        raise UserError(f"{title}: expected a data set with a length, found a stream ({type(dataset).__name__})")
    first, step = (module.global_rank, module.trainer.world_size) if share else (0, 1)
    batches = DataLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=range(first, len(dataset), step),  # type: ignore[arg-type]
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
    )
    for batch in tqdm(
        batches, desc=title, unit="batch", delay=5, leave=False, disable=not module.trainer.is_global_zero
    ):
        yield move_data_to_device(batch, module.device)
