"""The linear head by value."""

import pytest
import torch
from torch.nn import functional as F

from src.core.resizing import resize_scores
from src.segmentation.decoders.linear import LinearDecoder


def test_without_norm_it_is_one_matrix_upsampled_bilinearly() -> None:
    torch.manual_seed(0)
    decoder, maps = LinearDecoder(6, 3, batch_norm=False), torch.randn(2, 6, 4, 5)
    logits = torch.einsum("cd,bdhw->bchw", decoder.linear.weight[:, :, 0, 0], maps) + decoder.linear.bias[:, None, None]
    torch.testing.assert_close(decoder.classify([maps]), logits)
    expected = F.interpolate(logits, (9, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoder([maps], (9, 11)), expected)


def test_the_norm_makes_it_blind_to_scale_and_shift_of_channels() -> None:
    torch.manual_seed(0)
    decoder, maps = LinearDecoder(6, 3, batch_norm=True), torch.randn(4, 6, 8, 8)
    scale, shift = torch.tensor([1.0, 10, 100, 0.5, 2, 3]), torch.arange(6.0)
    moved = maps * scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(decoder.classify([moved]), decoder.classify([maps]), atol=1e-4, rtol=0)
    assert not [name for name, _ in decoder.norm.named_parameters()]


def test_several_blocks_are_concatenated() -> None:
    decoder = LinearDecoder(6, 3, batch_norm=False, blocks=[0, 1])
    first, second = torch.randn(1, 6, 2, 2), torch.randn(1, 6, 2, 2)
    assert decoder.blocks == [0, 1]
    torch.testing.assert_close(decoder.classify([first, second]), decoder.linear(torch.cat((first, second), 1)))
    with pytest.raises(ValueError, match="blocks is empty"):
        LinearDecoder(6, 3, blocks=[])


def test_half_precision_scores_are_resized_in_float32() -> None:
    scores = torch.randn(1, 2, 3, 3).bfloat16()
    assert torch.equal(resize_scores(scores, (7, 7)), resize_scores(scores.float(), (7, 7)))
