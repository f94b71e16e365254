"""Memory bank of labelled patches for dense nearest-neighbour evaluation.

Shapes: N patches of one image · D width · C classes · M patches in the bank.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from src.evaluation.patch_labels import patch_fractions
from src.evaluation.patch_sample import PatchSample


class MemoryBank:
    """L2-normalised patch features with soft labels, bounded in size as `PatchSample` is.

    Args:
        max_patches: Bound on M. 2^18 by default (our choice): the 367 training images of CamVid at 294×392 are 215,796
            patches of 14 px; at width 384 the bank then takes 0.4 GB.
        seed: Seed of the subset.

    Raises:
        UserError: If `max_patches` is not positive.
    """

    def __init__(self, max_patches: int = 2**18, seed: int = 0) -> None:
        self.max_patches = max_patches
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Remove everything."""
        self._sample = PatchSample(self.max_patches, self.seed, "memory bank")

    def add(self, index: int, features: Tensor, counts: Tensor) -> None:
        """Add the patches of one image; a repeated one replaces itself.

        Args:
            index: Index of the image in its data set.
            features: `[N, D]`, not normalised; kept on the CPU as float32 (float64 stays).
            counts: Labelled pixels per class and patch, `[C, h, w]` with h·w = N; unlabelled patches are left out.
        """
        fractions, labelled = (part.squeeze(0) for part in patch_fractions(counts[None]))
        features = features.float() if features.dtype.itemsize < 4 else features
        self._sample.add(index, labelled, F.normalize(features, dim=-1), fractions.to(features.dtype))

    def gathered(self) -> tuple[Tensor, Tensor]:
        """Features `[M, D]` and label fractions `[M, C]` of all ranks' images, by image index; call it on all ranks.

        Raises:
            UserError: If no patch has a label.
        """
        features, fractions, _ = self._sample.gathered()
        return features, fractions
