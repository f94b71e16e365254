"""Memory bank of labelled patches for dense nearest-neighbour evaluation.

Shapes: N patches of one image · D width · C classes · M patches in the bank.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core.distributed import merge_by_index
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.patch_labels import patch_fractions


class _Patches(NamedTuple):
    """Kept patches of one image: features `[n, D]`, label fractions `[n, C]`, random keys `[n]`."""

    features: Tensor
    fractions: Tensor
    keys: Tensor

    def below(self, threshold: float) -> _Patches:
        kept = self.keys <= threshold
        return self if bool(kept.all()) else _Patches(*(tensor[kept] for tensor in self))


class MemoryBank:
    """L2-normalised patch features with soft labels, bounded in size.

    Of more than `max_patches` patches, a uniform random subset is kept: each patch has a random key that depends on
    (seed, image index, position) alone, and the smallest keys are kept. The subset is therefore the same for any order
    of images and any number of ranks, and filling takes the memory of twice the bound.

    Args:
        max_patches: Bound on M. 2^18 by default (our choice): the 367 training images of CamVid at 294×392 are 215,796
            patches of 14 px; at width 384 the bank then takes 0.4 GB.
        seed: Seed of the subset.

    Raises:
        UserError: If `max_patches` is not positive.
    """

    def __init__(self, max_patches: int = 2**18, seed: int = 0) -> None:
        if max_patches < 1:
            raise UserError(f"MemoryBank: max_patches {max_patches}; expected at least 1")
        self.max_patches = max_patches
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Remove everything."""
        self._images: dict[int, _Patches] = {}
        self._total = 0
        self._threshold = float("inf")

    @property
    def empty(self) -> bool:
        """True if no image was added on this rank."""
        return not self._images

    def add(self, index: int, features: Tensor, counts: Tensor) -> None:
        """Add the patches of one image; a repeated one replaces itself.

        Args:
            index: Index of the image in its data set.
            features: `[N, D]`, not normalised; kept on the CPU as float32 (float64 stays).
            counts: Labelled pixels per class and patch, `[C, h, w]` with h·w = N; unlabelled patches are left out.
        """
        fractions, labelled = (part.squeeze(0) for part in patch_fractions(counts[None]))
        random = KeyedRandom(self.seed, torch.zeros(1, dtype=torch.int64), torch.tensor([index]))
        keys = random.uniform("memory bank", len(features)).squeeze(0)
        features = features.float() if features.dtype.itemsize < 4 else features
        patches = _Patches(F.normalize(features, dim=-1).cpu(), fractions.to(features.dtype).cpu(), keys)
        kept = labelled.cpu() & (keys <= self._threshold)
        before = self._images.get(index)
        self._images[index] = _Patches(*(tensor[kept] for tensor in patches))
        self._total += len(self._images[index].keys) - (0 if before is None else len(before.keys))
        if self._total > 2 * self.max_patches:
            self._images = self._smallest(self._images)
            self._total = sum(len(image.keys) for image in self._images.values())

    def gathered(self) -> tuple[Tensor, Tensor]:
        """Features `[M, D]` and label fractions `[M, C]` of all ranks' images, by image index; call it on all ranks.

        Raises:
            UserError: If no patch has a label.
        """
        images = self._smallest(merge_by_index(self._images))
        if not any(len(image.keys) for image in images.values()):
            raise UserError(f"memory bank: none of the patches of {len(images)} training images has a label")
        return (
            torch.cat([image.features for image in images.values()]),
            torch.cat([image.fractions for image in images.values()]),
        )

    def _smallest(self, images: dict[int, _Patches]) -> dict[int, _Patches]:
        """Keep the `max_patches` patches with the smallest keys, and their largest key."""
        keys = [image.keys for image in images.values()]
        if sum(map(len, keys)) <= self.max_patches:
            return images
        self._threshold = float(torch.cat(keys).kthvalue(self.max_patches).values)
        return {index: image.below(self._threshold) for index, image in images.items()}
