"""Test-time averaging of feature maps over views of an image: a baseline without training.

Shapes: B images · D width · H×W pixels · h×w patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core.errors import UserError
from src.core.resizing import resize_images

SCALES = (0.75, 1.0, 1.5)  # docs/method.md, section 12; with and without a flip, six views


class TestTimeAveraging:
    """Mean feature map over scales and horizontal flips, on the grid of the original image.

    Args:
        maps: Images `[B, 3, H, W]`, sides multiples of the patch size → features `[B, D, h, w]`.
        patch: Patch size in pixels.
        scales: Each resizes the images to the nearest multiples of the patch size, at least one patch.
        flip: Also average over mirrored views.

    Raises:
        UserError: If there is no scale, one is not positive, or the patch size is not.
    """

    __test__ = False  # not a test case, despite its name

    def __init__(
        self,
        maps: Callable[[Tensor], Tensor],
        patch: int,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
    ) -> None:
        if not scales or not all(scale > 0 for scale in scales) or patch < 1:
            raise UserError(
                "TestTimeAveraging: expected scales above 0, at least one, and a patch size of at least 1, found "
                f"scales {list(scales)} and patch {patch}"
            )
        self.maps = maps
        self.patch = patch
        self.scales = tuple(scales)
        self.flip = flip

    def __call__(self, images: Tensor) -> Tensor:
        """Averaged features `[B, D, H/patch, W/patch]`, float32 at least, of images `[B, 3, H, W]`.

        Raises:
            UserError: If a side is not a multiple of the patch size.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise UserError(
                f"test-time averaging: images of {height}×{width} px; expected multiples of the patch size {self.patch}"
            )
        grid = (height // self.patch, width // self.patch)
        total: Tensor | None = None
        for scale in self.scales:
            seen = resize_images(images, (self._size(height, scale), self._size(width, scale)))
            for mirrored in (False, True) if self.flip else (False,):
                view = self.maps(seen.flip(-1)).flip(-1) if mirrored else self.maps(seen)
                view = self._resampled(view, grid)
                total = view if total is None else total + view
        assert total is not None
        return total / (len(self.scales) * (1 + self.flip))

    def _size(self, side: int, scale: float) -> int:
        return max(1, round(side * scale / self.patch)) * self.patch

    @staticmethod
    def _resampled(view: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features on the base grid; antialiased if the view's own grid is finer, so that each patch counts."""
        view = view.float() if view.dtype.itemsize < 4 else view
        if view.shape[-2:] == torch.Size(grid):
            return view
        return F.interpolate(view, size=grid, mode="bilinear", align_corners=False, antialias=True)
