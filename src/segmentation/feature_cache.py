"""Cache frozen features, computed once before a head is trained.

Shapes: B images · D width · C classes · h×w patches · H×W pixels · h'×w' the head's own grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from src.core.errors import UserError
from src.segmentation.iterate_once import iterate_once


class FeatureBatch(NamedTuple):
    """Cached features in place of a labelled batch of images.

    Attributes:
        maps: Feature maps `[B, D, h, w]`, one per block that the head wants.
        masks: As in the batch of images; an empty list if there are `counts` instead.
        counts: Labelled pixels per class and cell of the head's grid, `[B, C, h', w']`, or None.
        indices: int64 `[B]`.
        names: One per image.
    """

    maps: list[Tensor]
    masks: Tensor | list[Tensor]
    counts: Tensor | None
    indices: Tensor
    names: list[str]


class CachedFeatures(LightningDataModule):
    """Wraps a data module and yields its samples as features, in the order and batches of its loaders.

    Every rank computes and holds the features of all images: 0.9 MB an image for ViT-S/14 at 294×392 (float32, exact).

    Args:
        inner: Gives the images. Its training samples must be the same in every epoch.
        module: The module that trains on the features.
        features: From a batch of images, and whether it is for training, to a batch of features; exactly as the module
            would compute them.

    Raises:
        UserError: If the data module transforms its training images at random.
    """

    def __init__(
        self, inner: LightningDataModule, module: LightningModule, features: Callable[[Any, bool], FeatureBatch]
    ) -> None:
        super().__init__()
        if getattr(inner, "transforms", None) is not None:
            raise UserError(
                f"cache_features keeps one feature map per image, but {type(inner).__name__} transforms its training "
                "images at random; set the data module's transforms to null, or the model's cache_features to false"
            )
        self.inner = inner
        self.module = module
        self.features = features
        self._kept: dict[str, CachedSamples] = {}

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches as features; with the inner loader's sampler, and so its order and resumption."""
        return self._loader(self.inner.train_dataloader(), "training")

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches as features."""
        return self._loader(self.inner.val_dataloader(), "validation")

    def teardown(self, stage: str) -> None:
        """Free the features."""
        self._kept = {}
        self.inner.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """Passed through from the inner data module."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Passed on to the inner data module."""
        self.inner.load_state_dict(state_dict)

    def _loader(self, loader: DataLoader[Any], which: str) -> DataLoader[Any]:
        if which not in self._kept:
            self._kept[which] = self._compute(loader, which)
        return DataLoader(
            self._kept[which],
            batch_size=loader.batch_size,
            sampler=loader.sampler,
            drop_last=loader.drop_last,
            collate_fn=_as_fetched,
        )

    @torch.no_grad()
    def _compute(self, loader: DataLoader[Any], which: str) -> CachedSamples:
        samples: dict[int, FeatureBatch] = {}
        for batch in iterate_once(loader, self.module, f"features of the {which} images", share=False):
            with self.module.trainer.precision_plugin.forward_context():
                features = self.features(batch, which == "training")
            for place in range(len(features.names)):
                samples[len(samples)] = _sample(features, place)
        return CachedSamples(samples, stacked=which == "training")


class CachedSamples(Dataset[FeatureBatch]):
    """Features of single images in memory, fetched a batch at a time.

    Args:
        samples: By index in the data set; each a batch of one, masks without the batch axis.
        stacked: Stack masks, which have one size; otherwise they are a list.
    """

    def __init__(self, samples: dict[int, FeatureBatch], stacked: bool) -> None:
        self.samples = samples
        self.stacked = stacked

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: list[int | tuple[int, int]]) -> FeatureBatch:
        """A batch; a key is an index, or (epoch, index) from the training sampler."""
        chosen = [self.samples[key[1] if isinstance(key, tuple) else key] for key in keys]
        masks: list[Tensor] = [mask.long() for sample in chosen for mask in sample.masks]
        counts = [sample.counts for sample in chosen if sample.counts is not None]
        return FeatureBatch(
            maps=[torch.cat(level) for level in zip(*(sample.maps for sample in chosen), strict=True)],
            masks=torch.stack(masks) if masks and self.stacked else masks,
            counts=torch.cat(counts) if counts else None,
            indices=torch.cat([sample.indices for sample in chosen]),
            names=[name for sample in chosen for name in sample.names],
        )


def _sample(batch: FeatureBatch, place: int) -> FeatureBatch:
    """One image of a batch, copied to the CPU; masks as int16, a quarter of int64."""
    one = slice(place, place + 1)
    return FeatureBatch(
        maps=[level[one].cpu().clone() for level in batch.maps],
        masks=[batch.masks[place].to("cpu", torch.int16)] if len(batch.masks) else [],
        counts=None if batch.counts is None else batch.counts[one].cpu().clone(),
        indices=batch.indices[one].cpu().clone(),
        names=batch.names[one],
    )


def _as_fetched(batch: Any) -> FeatureBatch:
    """The data set returns complete batches."""
    return batch
