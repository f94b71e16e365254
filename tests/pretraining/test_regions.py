"""Regions follow the attention; windows are where they should be; Eq. 6 starts near the identity."""

import pytest
import torch
from scipy import stats

from src.core.keyed_random import KeyedRandom
from src.pretraining.regions import AttentionAware, Grid, MostAttended, RegionalAttention, Uniform, region_means

GRID = (5, 6)


def random(count: int) -> KeyedRandom:
    return KeyedRandom(0, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def attention(count: int, heads: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.randn(1, 1, heads, 30, generator=generator)).softmax(-1).expand(1, count, heads, 30)


def test_anchors_follow_the_attention_of_their_head():
    maps = attention(10_000)
    anchors = AttentionAware(1).anchors(maps, GRID, random(10_000))[0, :, 0]
    expected = maps[0, 0].mean(0)  # heads are drawn uniformly
    assert (
        stats.chisquare(
            torch.bincount(anchors, minlength=30).numpy(), (expected / expected.sum() * 10_000).numpy()
        ).pvalue
        > 1e-3
    )


def test_most_attended_anchors_are_the_heads_maxima_and_both_heads_are_used():
    maps = attention(200)
    anchors = MostAttended(3).anchors(maps, GRID, random(200))
    assert set(anchors.unique().tolist()) == set(maps[0, 0].argmax(-1).tolist())


def test_uniform_anchors_are_uniform_and_grid_anchors_are_spread_and_fixed():
    anchors = Uniform(1).anchors(attention(10_000), GRID, random(10_000)).flatten()
    assert stats.chisquare(torch.bincount(anchors, minlength=30).numpy()).pvalue > 1e-3
    assert Grid(3).anchors(attention(2), GRID, random(2)).tolist() == [[[5, 15, 25]] * 2]


@pytest.mark.parametrize(
    ("window", "row", "column"), [(3, 2, 3), (3, 0, 0), (4, 4, 5), (5, 2, 0), (2, 0, 5), (1, 3, 3)]
)
def test_a_region_is_its_window_clipped_to_the_grid(window, row, column):
    class Fixed(Uniform):
        def anchors(self, attention, grid, random):
            return torch.full((1, 1, 1), row * 6 + column)

    region = Fixed(1, (window,))(attention(1), GRID, random(1))[0, 0, 0].view(GRID)
    top, left = row - window // 2, column - window // 2
    naive = [[top <= r < top + window and left <= c < left + window for c in range(6)] for r in range(5)]
    assert region.tolist() == naive


def test_all_windows_are_drawn_and_no_other():
    regions = Uniform(4, (1, 2))(attention(500), GRID, random(500))
    sizes = regions.sum(-1).unique().tolist()
    assert 1 in sizes and 4 in sizes and max(sizes) == 4


def test_region_means_are_means_of_their_patches():
    patches, mask = torch.randn(2, 30, 7), torch.rand(2, 4, 30) < 0.4
    naive = torch.stack([torch.stack([patches[i][mask[i, r]].mean(0) for r in range(4)]) for i in range(2)])
    assert torch.allclose(region_means(patches, mask), naive, atol=1e-6)


def test_attention_over_a_view_starts_as_plain_similarity():
    context = RegionalAttention(16, noise=0.0)
    regions, patches = torch.randn(3, 2, 16), torch.randn(3, 9, 16)
    weights = (regions @ patches.transpose(1, 2) / 4).softmax(-1)
    assert torch.allclose(context.weights(regions, patches), weights, atol=1e-6)
    assert torch.allclose(context(regions, patches), weights @ patches, atol=1e-6)


def test_the_noise_of_the_initialisation_has_its_size():
    context = RegionalAttention(256, noise=0.02)
    assert (context.key.weight - torch.eye(256)).std().item() == pytest.approx(0.02, rel=0.02)


def test_impossible_regions_are_refused():
    with pytest.raises(ValueError, match="R = 0"):
        Uniform(0)
    with pytest.raises(ValueError, match="windows"):
        Uniform(2, ())


def test_attention_is_formed_in_float32_inside_autocast():
    torch.manual_seed(0)
    context = RegionalAttention(64)
    regions, patches = 12 * torch.randn(2, 8, 64), 12 * torch.randn(2, 35, 64)
    exact = context(regions, patches), context.weights(regions, patches)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(context.weights(regions, patches), exact[1])
