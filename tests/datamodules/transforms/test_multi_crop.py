"""Views show what their boxes say, overlap as they should, and depend on nothing but their key."""

from __future__ import annotations

from collections import Counter

import albumentations
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.transforms.multi_crop import (
    ASPECT,
    GLOBAL_AREA,
    LOCAL_AREA,
    MIN_OVERLAP,
    MultiViewCrop,
    View,
    draw_box,
    draw_overlapping_box,
    overlap,
    resize_crop,
)
from src.core.errors import UserError
from tests.datamodules.pictures import gradient

sides = st.integers(1, 3000)
keys = st.integers(0, 2**31)


@given(keys, sides, sides)
@settings(deadline=None)
def test_boxes_lie_in_the_image_and_the_second_overlaps_the_first(seed: int, height: int, width: int) -> None:
    draws = np.random.default_rng(seed)
    first = draw_box(draws, height, width, GLOBAL_AREA)
    second = draw_overlapping_box(draws, height, width, GLOBAL_AREA, first)
    for y0, x0, y1, x1 in (first, second):
        assert 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        assert ASPECT[0] * 0.999 <= (x1 - x0) / (y1 - y0) <= ASPECT[1] * 1.001
    assert overlap(first, second) >= MIN_OVERLAP


@given(keys)
@settings(deadline=None)
def test_areas_are_as_asked_where_the_image_allows(seed: int) -> None:
    for low, high in (GLOBAL_AREA, LOCAL_AREA):
        y0, x0, y1, x1 = draw_box(np.random.default_rng(seed), 300, 400, (low, high))
        share = (y1 - y0) * (x1 - x0) / (300 * 400)
        assert low * 0.999 <= share <= high * 1.001 or share == pytest.approx(1.0)


def test_local_areas_fill_their_range_evenly() -> None:
    draws = np.random.default_rng(0)
    boxes = np.array([draw_box(draws, 1000, 1000, LOCAL_AREA) for _ in range(4000)])
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 1e6
    counts, _ = np.histogram(share, bins=8, range=LOCAL_AREA)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # chi-square, 7 degrees of freedom, p = 0.001


def test_overlap_by_hand() -> None:
    assert overlap((0, 0, 4, 4), (2, 2, 4, 4)) == 1.0  # the smaller one lies inside
    assert overlap((0, 0, 4, 4), (2, 2, 6, 6)) == 0.25
    assert overlap((0, 0, 4, 4), (4, 0, 8, 4)) == 0.0


def test_a_pair_that_no_try_finds_is_moved_onto_the_first() -> None:
    corner = (0.0, 0.0, 10.0, 10.0)
    for seed in range(200):  # 0.0001 of the area: a random place nearly never overlaps
        box = draw_overlapping_box(np.random.default_rng(seed), 1000, 1000, (1e-4, 1e-4), corner)
        assert overlap(box, corner) >= MIN_OVERLAP and min(box) >= 0


def assert_shows_its_box(view: View) -> None:
    """The painted coordinates in a view's pixels are those of its box, to half a pixel of the view and rounding."""
    size = view.image.shape[0]
    y0, x0, y1, x1 = view.box
    centres = (np.arange(size) + 0.5) / size
    columns = centres[::-1] if view.flip else centres
    inner = slice(2, -2)  # bicubic resizing bends the outermost pixels of the image
    y, x = view.image[..., 0][inner, inner] / 255, view.image[..., 1][inner, inner] / 255
    assert np.abs(y - (y0 + centres * (y1 - y0))[inner, None]).max() < 0.5 * (y1 - y0) / size + 0.005
    assert np.abs(x - (x0 + columns * (x1 - x0))[None, inner]).max() < 0.5 * (x1 - x0) / size + 0.005


@given(st.integers(0, 1000), st.integers(120, 400), st.integers(120, 400))
@settings(deadline=None, max_examples=30)
def test_views_of_painted_coordinates_show_their_boxes(index: int, height: int, width: int) -> None:
    crop = MultiViewCrop(40, local_views=3, local_size=24, photometric=False)
    global_views, local_views = crop(gradient(height, width), epoch=1, index=index)
    assert [view.image.shape for view in global_views] == [(40, 40, 3)] * 2
    assert [view.image.shape for view in local_views] == [(24, 24, 3)] * 3
    for view in (*global_views, *local_views):
        assert_shows_its_box(view)


def test_both_orientations_occur_about_equally_often() -> None:
    crop = MultiViewCrop(8, photometric=False)
    flips = [view.flip for i in range(200) for view in crop(gradient(16, 16), 0, i)[0]]
    assert 150 <= sum(flips) <= 250


def test_views_depend_on_seed_epoch_and_index_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    crop = MultiViewCrop(32, local_views=1, local_size=16, seed=5)
    first = [view.image for views in crop(image, 2, 7) for view in views]
    for index in (1, 2, 3):
        crop(image, 0, index)  # what was drawn before must not matter
    again = [view.image for views in MultiViewCrop(32, 1, 16, seed=5)(image, 2, 7) for view in views]
    repeated = [view.image for views in crop(image, 2, 7) for view in views]
    for one, two, three in zip(first, again, repeated, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    for other in (crop(image, 3, 7), crop(image, 2, 8), MultiViewCrop(32, 1, 16, seed=6)(image, 2, 7)):
        assert not np.array_equal(other[0][0].image, first[0])


@pytest.mark.parametrize("scale", [(0.04, 0.16), (0.3, 0.3), (1.0, 1.0)])
def test_global_views_cover_the_share_that_they_are_told_to(scale: tuple[float, float]) -> None:
    crop = MultiViewCrop(16, photometric=False, global_crops_scale=scale)
    for index in range(20):
        for view in crop(gradient(120, 120), 0, index)[0]:
            y0, x0, y1, x1 = view.box
            share = (y1 - y0) * (x1 - x0)
            assert scale[0] * 0.999 <= share <= scale[1] * 1.001 or share == pytest.approx(1)


@pytest.mark.parametrize("scale", [(0.0, 0.5), (0.5, 0.25), (0.5, 1.5), (0.5,), (float("nan"), 1.0)])
def test_shares_that_no_view_can_cover_are_refused(scale: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="global_crops_scale: expected"):
        MultiViewCrop(16, global_crops_scale=scale)  # type: ignore[arg-type]


def test_photometric_changes_colours_but_not_geometry() -> None:
    image = gradient(60, 80)
    plain, changed = (MultiViewCrop(32, photometric=p)(image, 0, 3)[0] for p in (False, True))
    assert plain[0].box == changed[0].box and plain[0].flip == changed[0].flip
    assert not np.array_equal(plain[0].image, changed[0].image)


def test_first_views_are_always_blurred_and_second_ones_sometimes_solarised() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    views = [MultiViewCrop(64)(noise, 0, i)[0] for i in range(200)]
    plain = [MultiViewCrop(64, photometric=False)(noise, 0, i)[0] for i in range(200)]
    first, second = (
        np.array([v[k].image.std() / p[k].image.std() for v, p in zip(views, plain, strict=True)]) for k in (0, 1)
    )
    assert np.median(first) < 0.6 * np.median(second)
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    slopes = [MultiViewCrop(64)(ramp, 0, i)[0][1] for i in range(300)]
    falls = [(np.sign(np.diff(v.image[32, :, 0].astype(int))) == (1 if v.flip else -1)).any() for v in slopes]
    assert 0.1 < np.mean(falls) < 0.3  # p = 0.2: only solarising turns a rising ramp round


def test_small_images_are_enlarged() -> None:
    view = MultiViewCrop(64, photometric=False)(gradient(20, 20), 0, 0)[0][0]
    assert view.image.shape == (64, 64, 3)


def test_resizing_downwards_averages_instead_of_picking() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = resize_crop(Image.fromarray(stripes), (0, 0, 64, 64), (16, 16))
    assert np.abs(shrunk[:, 2:-2].astype(int) - 127).max() <= 3


def test_nonsense_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="local_views -1"):
        MultiViewCrop(32, local_views=-1)


def test_the_photometric_steps_of_a_view_are_independent_of_each_other() -> None:
    crop = MultiViewCrop(8)
    crop.photometric = [albumentations.Compose([albumentations.ToGray(p=0.5), albumentations.InvertImg(p=0.5)])] * 2
    image = np.full((16, 16, 3), (250, 10, 10), np.uint8)
    views = [view.image[0, 0].tolist() for epoch in range(200) for view in crop(image, epoch, 0)[0]]
    steps = Counter((len(set(pixel)) == 1, max(pixel[1:]) > 150) for pixel in views)  # (grey, inverted)
    assert len(steps) == 4 and min(steps.values()) > 60, steps  # of 400, 100 each
