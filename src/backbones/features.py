"""Features of a batch of images, by name.

Shapes: B images · H heads · D width · N = h·w patches · E extra prefix tokens (registers, a second class token).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Tokens after the final norm (docs/method.md, "Symbols").

    Attributes:
        cls: Class token, `[B, D]`.
        extra: Further prefix tokens, `[B, E, D]`; E is 0 for a plain ViT.
        patches: `[B, N, D]`, row by row.
        attention: The last block's attention from the class token to the patches, `[B, H, N]`, a softmax over all
            tokens, without the prefix columns; None unless asked for.
        grid: Patches (h, w).
    """

    cls: Tensor
    extra: Tensor
    patches: Tensor
    attention: Tensor | None
    grid: tuple[int, int]

    def split_views(self, views: int) -> Features:
        """Unfold a batch of `views · B` images into leading axes `[views, B]`."""
        attention = None if self.attention is None else self.attention.unflatten(0, (views, -1))
        cls, extra, patches = (tensor.unflatten(0, (views, -1)) for tensor in (self.cls, self.extra, self.patches))
        return Features(cls, extra, patches, attention, self.grid)
