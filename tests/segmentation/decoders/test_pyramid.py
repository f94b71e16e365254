"""The pyramid by value: where each patch goes, and what coarse levels hand down."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from src.segmentation.decoders.pyramid import Pyramid, check_blocks, level_size, top_down


def test_a_finer_level_writes_each_patch_into_its_own_cells() -> None:
    torch.manual_seed(0)
    pyramid, maps = Pyramid(3, [2], "batch", standardise=False), torch.randn(1, 3, 2, 3)
    (transposed,) = (module for module in pyramid.modules() if isinstance(module, nn.ConvTranspose2d))
    (level,) = pyramid([maps])
    expected = torch.empty(1, 3, 4, 6)
    for y in range(4):
        for x in range(6):
            matrix = transposed.weight[:, :, y % 2, x % 2]  # [in, out]
            expected[0, :, y, x] = maps[0, :, y // 2, x // 2] @ matrix + transposed.bias
    torch.testing.assert_close(level, expected)


def test_four_times_is_two_doublings_with_norm_and_gelu_between() -> None:
    torch.manual_seed(0)
    pyramid, maps = Pyramid(4, [4], "group", standardise=False), torch.randn(2, 4, 3, 5)
    first, norm, activation, second = pyramid.levels[0][1]
    assert isinstance(norm, nn.GroupNorm) and isinstance(activation, nn.GELU)
    torch.testing.assert_close(pyramid([maps])[0], second(activation(norm(first(maps)))))
    assert pyramid([maps])[0].shape == (2, 4, 12, 20)


def test_a_coarser_level_keeps_the_largest_of_each_square_and_loses_no_odd_row() -> None:
    maps = torch.arange(15.0).view(1, 1, 3, 5)
    maps = maps.expand(-1, 2, -1, -1)
    same, half, quarter = Pyramid(2, [1, 0.5, 0.25], "batch", standardise=False)([maps] * 3)
    assert torch.equal(same, maps)
    assert half[0, 0].tolist() == [[6, 8, 9], [11, 13, 14]]
    assert quarter[0, 0].tolist() == [[13, 14]]


def test_standardised_levels_are_blind_to_scale_and_shift_of_channels() -> None:
    torch.manual_seed(0)
    pyramid, maps = Pyramid(3, [2, 1], "batch", standardise=True), torch.randn(4, 3, 8, 8)
    moved = maps * torch.tensor([1.0, 50, 2])[:, None, None] + torch.tensor([0.0, -7, 3])[:, None, None]
    for level, other in zip(pyramid([maps] * 2), pyramid([moved] * 2), strict=True):
        torch.testing.assert_close(other, level, atol=2e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(-3, 2), min_size=1, max_size=4, unique=True))
def test_levels_have_the_size_that_is_foretold(height: int, width: int, exponents: list[int]) -> None:
    exponents = sorted(exponents, reverse=True)
    pyramid = Pyramid(1, [2.0**exponent for exponent in exponents], "batch", standardise=False).eval()
    for exponent, level in zip(exponents, pyramid([torch.zeros(1, 1, height, width)] * len(exponents)), strict=True):
        assert level.shape[-2:] == level_size((height, width), exponent)


def test_each_level_holds_itself_and_all_coarser_ones() -> None:
    fine, middle, coarse = torch.ones(1, 1, 5, 4), 10 * torch.ones(1, 1, 3, 2), torch.tensor([[[[100.0, 200.0]]]])
    merged = top_down([fine, middle, coarse], "nearest")
    assert merged[2] is coarse
    assert merged[1][0, 0].tolist() == [[110, 210]] * 3
    assert merged[0][0, 0].tolist() == [[111, 111, 211, 211]] * 5


@pytest.mark.parametrize(
    ("scales", "message"),
    [([3.0], "powers of two"), ([-1.0], "powers of two"), ([], "powers of two"), ([1.0, 2.0], "finest level first")],
)
def test_scales_that_make_no_pyramid_are_refused(scales: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pyramid(2, scales, "batch", standardise=True)


def test_a_block_without_a_scale_is_refused() -> None:
    check_blocks((1, 3), (2.0, 1.0))
    with pytest.raises(ValueError, match=r"blocks \[1, 3, 5\] and scales \[2.0, 1.0\]: expected one scale"):
        check_blocks((1, 3, 5), (2.0, 1.0))
