"""Matches are right exactly where both patches show the same ground."""

from __future__ import annotations

import numpy as np
import torch

from src.backbones.features import Features
from src.explanation.matching import SHOWN, VIEW, match_lines, overlapping_views, similar_patches
from src.explanation.palette import MATCH, MISMATCH
from src.pretraining.correspondence import patch_centres

GRID = (VIEW, VIEW)


def painted() -> np.ndarray:
    """An image [200, 200, 3] whose red and green are each pixel's own row and column."""
    rows, columns = np.meshgrid(np.arange(200), np.arange(200), indexing="ij")
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def test_the_two_views_show_what_their_boxes_say() -> None:
    views = overlapping_views(painted(), patch=14)
    for view in range(2):
        centres = patch_centres(views.boxes[view, 0], views.flips[view, 0], GRID)
        pixels = views.images[view, 0, :2].float().unfold(1, 14, 14).unfold(2, 14, 14).mean((-1, -2))  # [2, h, w]
        found = (pixels.flatten(1).T + 0.5) / 200
        assert (found - centres).abs().max() < 0.01


def features_of_ground(views, view: int) -> torch.Tensor:
    """Features that tell where on the image a patch lies: random Fourier features, alike only where near."""
    generator = torch.Generator().manual_seed(0)
    directions = 40 * torch.randn(2, 256, generator=generator)
    angles = patch_centres(views.boxes[view, 0], views.flips[view, 0], GRID) @ directions
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def test_features_that_know_their_ground_always_find_it() -> None:
    views = overlapping_views(painted(), patch=14)
    lines, share = match_lines(views, features_of_ground(views, 0), features_of_ground(views, 1), GRID)
    assert share == 1.0
    assert len(lines) == SHOWN
    assert all(colour == MATCH for *_, colour in lines)
    for start, end, _ in lines:  # the second view is mirrored: x runs against x
        y, x = start / 224 * 0.8
        assert abs(float(0.2 + end[0] / 224 * 0.8 - y)) < 0.08
        assert abs(float(1.0 - end[1] / 224 * 0.8 - x)) < 0.08


def test_features_that_know_nothing_rarely_find_it() -> None:
    views = overlapping_views(painted(), patch=14)
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, VIEW * VIEW, 32, generator=generator)
    lines, share = match_lines(views, first, second, GRID)
    assert share < 0.15  # chance: about 7 of 256 places are near enough
    assert any(colour == MISMATCH for *_, colour in lines)


def features(patches: torch.Tensor, grid: tuple[int, int]) -> Features:
    return Features(torch.zeros(1, 2), torch.zeros(1, 0, 2), patches[None], None, grid)


def test_neighbours_are_the_most_similar_ones_that_do_not_overlap() -> None:
    angles = torch.full((2, 5, 5), 90.0)
    angles[0, 0, 0] = 0  # the query
    angles[0, 0, 1] = 1  # beside it: left out
    angles[1, 2, 2] = 10
    angles[1, 2, 3] = 20  # beside the nearest: left out
    angles[0, 4, 4] = 30
    unit = torch.stack((angles.deg2rad().cos(), angles.deg2rad().sin()), dim=-1).flatten(1, 2)
    found = similar_patches([features(unit[0], (5, 5)), features(unit[1], (5, 5))], (0, 0), count=2)
    assert [(image, place) for image, place, _ in found] == [(1, (2, 2)), (0, (4, 4))]
    assert [round(cosine, 4) for *_, cosine in found] == [0.9848, 0.866]
