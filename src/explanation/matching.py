"""Matching patches of two views, by geometry and by features.

Shapes: S side in pixels · N = h·w patches of a view · D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from datamodules.views import Views
from src.backbones.features import Features
from src.core.colours import Colour
from src.explanation.palette import MATCH, MISMATCH
from src.pretraining.correspondence import locate, patch_centres

SHOWN = 12  # number of matches to draw (our choice)
TOLERANCE = 1.5  # distance in patches to the true position up to which a match counts as correct (our choice)
VIEW = 16  # patches along a side of a view (our choice)
# boxes (y0, x0, y1, x1) of the two views, the second mirrored (our choice)
BOXES = ((0.0, 0.0, 0.8, 0.8), (0.2, 0.2, 1.0, 1.0))


def overlapping_views(image: NDArray[np.uint8], patch: int) -> Views:
    """Two square views `[2, 1, 3, S, S]` of an image `[H, W, 3]`, the second mirrored; they share 36 % of the image."""
    height, width = image.shape[:2]
    pixels = []
    for y0, x0, y1, x1 in BOXES:
        crop = (x0 * width, y0 * height, x1 * width, y1 * height)
        view = Image.fromarray(image).resize((VIEW * patch, VIEW * patch), Image.Resampling.BICUBIC, crop)
        pixels.append(np.asarray(view))
    pixels[1] = pixels[1][:, ::-1]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)[:, None]
    return Views(images, torch.tensor(BOXES)[:, None], torch.tensor([[False], [True]]))


def match_lines(
    views: Views, first: Tensor, second: Tensor, grid: tuple[int, int]
) -> tuple[list[tuple[Tensor, Tensor, Colour]], float]:
    """Match patches of the first view to the most similar ones of the second; compute the share of correct matches.

    Args:
        views: Two views of one image.
        first: Patch features `[N, D]` of the first view.
        second: Patch features `[N, D]` of the second view.
        grid: Patches (h, w) of both.

    Returns:
        Start and end (y, x) in pixels of the views and a colour, for up to `SHOWN` fixed patches in the overlap of both
        views; and the share of all patches in the overlap whose match is within `TOLERANCE` patches of the same ground.
    """
    points = patch_centres(views.boxes[0, 0], views.flips[0, 0], grid)  # [N, 2]
    true, inside = locate(points, views.boxes[1, 0], views.flips[1, 0], grid)
    similarity = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T  # [N, N]
    found = similarity.argmax(dim=-1)
    places = torch.stack((found // grid[1], found % grid[1]), dim=-1)  # [N, 2]
    right = (places - true).square().sum(-1).sqrt() <= TOLERANCE
    shared = inside.nonzero().flatten()
    # not evenly spaced, which would form a line
    order = torch.randperm(len(shared), generator=torch.Generator().manual_seed(0))
    chosen = shared[order[:SHOWN]]
    own = torch.stack((torch.arange(len(first)) // grid[1], torch.arange(len(first)) % grid[1]), dim=-1)
    patch = views.images.shape[-1] / grid[1]
    lines = [
        ((own[index] + 0.5) * patch, (places[index] + 0.5) * patch, MATCH if right[index] else MISMATCH)
        for index in chosen.tolist()
    ]
    return lines, float(right[shared].float().mean())


def similar_patches(
    features: Sequence[Features], query: tuple[int, int], count: int, apart: int = 3
) -> list[tuple[int, tuple[int, int], float]]:
    """The patches of all images most similar to one of the first image, as (image, (row, column), cosine), nearest
    first.

    Args:
        features: Features of each image.
        query: Row and column in the first image.
        count: Their number.
        apart: Patches nearer than this to the query or to a nearer neighbour are left out: they overlap.
    """
    grid = features[0].grid
    target = F.normalize(features[0].patches[0, query[0] * grid[1] + query[1]], dim=-1)
    maps = [(F.normalize(item.patches[0], dim=-1) @ target).unflatten(0, item.grid) for item in features]
    blank(maps[0], query, apart)
    found: list[tuple[int, tuple[int, int], float]] = []
    while len(found) < count:
        image = max(range(len(maps)), key=lambda index: float(maps[index].max()))
        row, column = divmod(int(maps[image].argmax()), maps[image].shape[1])
        cosine = float(maps[image][row, column])
        if cosine == -torch.inf:
            break
        found.append((image, (row, column), cosine))
        blank(maps[image], (row, column), apart)
    return found


def blank(values: Tensor, place: tuple[int, int], apart: int) -> None:
    """Set everything of `[h, w]` nearer than `apart` patches to `place` to minus infinity."""
    row, column = place
    values[max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart] = -torch.inf
