"""Bounded sample of patches over many images, for training and scoring probes.

Shapes: n patches of one image · M patches kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.core.distributed import merge_by_index
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom


class PatchSample:
    """Keeps a uniform random subset of at most `max_patches` patches, independent of the order of images.

    Each patch has a random key that depends on (seed, image index, position) alone, and the smallest keys are kept; any
    number of ranks therefore keeps the same patches, and filling takes the memory of twice the bound.

    Args:
        max_patches: Bound on M; 2^18, our choice, covers CamVid's 367 training images at 294×392 with 14-px patches.
        seed: Random seed of the subset.
        purpose: Name of the sample in messages; samples of different purposes keep different patches.

    Raises:
        UserError: If `max_patches` is not positive.
    """

    def __init__(self, max_patches: int = 2**18, seed: int = 0, purpose: str = "patch sample") -> None:
        if max_patches < 1:
            raise UserError(f"{purpose}: max_patches {max_patches}; expected at least 1")
        self.max_patches = max_patches
        self.seed = seed
        self.purpose = purpose
        self._images: dict[int, tuple[Tensor, ...]] = {}  # per image: keys [n], then one tensor [n, ...] per column
        self._total = 0
        self._threshold = float("inf")

    def add(self, index: int, kept: Tensor, *columns: Tensor) -> None:
        """Add the patches of one image; a repeated one replaces itself.

        Args:
            index: Index of the image in its data set.
            kept: Patches that may be kept, bool `[n]`, such as the labelled ones.
            columns: Tensors `[n, ...]`, one row per patch; kept on the CPU, half precision as float32.
        """
        random = KeyedRandom(self.seed, torch.zeros(1, dtype=torch.int64), torch.tensor([index]))
        keys = random.uniform(self.purpose, len(kept)).squeeze(0)
        chosen = (kept.cpu() & (keys <= self._threshold)).nonzero().flatten()
        held = (keys, *(column.float() if column.dtype.itemsize < 4 else column for column in columns))
        before = self._images.get(index)
        self._images[index] = tuple(column.detach().cpu()[chosen] for column in held)
        self._total += len(chosen) - (0 if before is None else len(before[0]))
        if self._total > 2 * self.max_patches:
            self._images = self._smallest(self._images)
            self._total = sum(len(image[0]) for image in self._images.values())

    def gathered(self) -> tuple[Tensor, ...]:
        """Columns `[M, ...]` of all ranks' images by image index, and last each patch's image index, int64 `[M]`.

        Call it on all ranks.

        Raises:
            UserError: If no patch was kept.
        """
        images = self._smallest(merge_by_index(self._images))
        if not any(len(image[0]) for image in images.values()):
            raise UserError(f"{self.purpose}: none of the patches of {len(images)} images has a label")
        owners = [torch.full((len(image[0]),), index) for index, image in images.items()]
        columns = zip(*(image[1:] for image in images.values()), strict=True)
        return (*(torch.cat(parts) for parts in columns), torch.cat(owners))

    def _smallest(self, images: dict[int, tuple[Tensor, ...]]) -> dict[int, tuple[Tensor, ...]]:
        """Keep the `max_patches` patches with the smallest keys, and their largest key."""
        keys = [image[0] for image in images.values()]
        if sum(map(len, keys)) <= self.max_patches:
            return images
        self._threshold = float(torch.cat(keys).kthvalue(self.max_patches).values)
        return {
            index: tuple(column[image[0] <= self._threshold] for column in image) for index, image in images.items()
        }
