"""Windows along one side of an image: their weights and their sizes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.segmentation.sliding_window import axis, centres, covering, matrices


@settings(deadline=None, max_examples=200)
@given(
    side=st.integers(1, 80),
    crop=st.integers(1, 40),
    share=st.floats(0.1, 1),
    scale=st.sampled_from([0.5, 1.0, 1.75, 2.0]),
    size=st.integers(1, 100),
)
def test_the_weights_of_all_windows_sum_to_one_at_every_place(
    side: int, crop: int, share: float, scale: float, size: int
) -> None:
    windows = axis(side, crop, max(1, crop * share), scale, patch=4)
    places = centres(0, size, size, side)
    weights = matrices(windows, covering(windows, places), places, cells=windows.padded // 4)
    torch.testing.assert_close(weights.sum(dim=(0, 2)), torch.ones(size, dtype=torch.float64))


def test_a_place_on_the_seam_of_two_windows_is_half_of_each() -> None:
    windows = axis(side=32, crop=16, stride=16, scale=1.0, patch=4)
    places = centres(0, 33, 33, 32)
    assert places[16] == 16  # the first window's end, the second one's start
    weights = matrices(windows, range(2), places, cells=4).sum(dim=2)
    assert weights[:, 16].tolist() == [0.5, 0.5] and weights[:, 15].tolist() == [1.0, 0.0]


def test_a_window_within_the_image_is_of_the_crop_s_size_at_every_scale() -> None:
    for scale in (0.5, 1.0, 1.25, 1.75, 2.0):
        windows = axis(side=2000, crop=512, stride=341, scale=scale, patch=16)
        assert (windows.resized, windows.padded) == (512, 512)
    small = axis(side=100, crop=512, stride=341, scale=1.75, patch=16)
    assert (small.starts, small.length, small.resized, small.padded) == ([0], 100, 175, 176)
