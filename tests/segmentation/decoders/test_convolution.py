"""The convolution of the larger heads, by value."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.segmentation.decoders.convolution import conv_norm_relu, make_norm


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (512, 32), (384, 16), (64, 8), (8, 1), (20, 1), (3, 1)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == groups


@pytest.mark.parametrize("kernel", [1, 3])
def test_it_is_a_padded_convolution_standardised_and_rectified(kernel: int) -> None:
    torch.manual_seed(0)
    layer, images = conv_norm_relu(4, 8, kernel, "batch"), torch.randn(3, 4, 5, 6)
    plain = F.conv2d(images, layer[0].weight, padding=kernel // 2)
    mean, std = plain.mean((0, 2, 3), keepdim=True), (plain.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(images), ((plain - mean) / std).clamp(min=0))
