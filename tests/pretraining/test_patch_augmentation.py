"""Patch-level augmentation: what is distorted, what is not, and how."""

import pytest
import torch

from datamodules.views import Crops, Views
from src.core.keyed_random import KeyedRandom
from src.pretraining.patch_augmentation import Blur, Grey, Mask, Noise, PatchAugmentation, Shuffle, gaussian_rows

STRATEGIES = [Blur, Noise, Grey, Mask, Shuffle]


def crops(batch: int = 3, side: int = 32) -> Crops:
    images = torch.randint(0, 256, (2, batch, 3, side, side), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    views = Views(
        images, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, batch, 4), torch.zeros(2, batch, dtype=torch.bool)
    )
    return Crops(views, None, torch.arange(batch), torch.zeros(batch, dtype=torch.int64))


def augment(augmentation: PatchAugmentation, given: Crops, seed: int = 0):
    return augmentation(given, 8, KeyedRandom(seed, given.epoch, given.indices))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exactly_the_masked_patches_change(strategy):
    given = crops()
    batch = augment(strategy(ratio=0.4), given)
    assert torch.equal(batch.clean.images, given.global_views.images.float() / 255)
    changed = (batch.clean.images != batch.distorted.images).any(2)  # [V, B, S, S]
    per_patch = changed.unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2).any(-1).flatten(2)
    assert torch.equal(per_patch, batch.mask)
    assert 0.2 < batch.mask.float().mean() < 0.6


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_sample_is_distorted_the_same_way_in_any_batch(strategy):
    given = crops()
    whole = augment(strategy(0.5), given)
    views = given.global_views
    part = Crops(
        Views(views.images[:, 1:2], views.boxes[:, 1:2], views.flips[:, 1:2]),
        None,
        given.indices[1:2],
        given.epoch[1:2],
    )
    assert torch.allclose(whole.distorted.images[:, 1:2], augment(strategy(0.5), part).distorted.images, atol=1e-6)


@pytest.mark.parametrize(("ratio", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_ratio_zero_and_one_distort_nothing_and_everything(ratio, share):
    assert augment(Mask(ratio), crops()).mask.float().mean() == share


def test_blur_equals_a_gaussian_written_as_a_loop():
    image = crops(1).global_views.images[:, :, :, :, :].float() / 255
    blurred = Blur(1.0, (3.0, 3.0)).distort(image, 8, KeyedRandom(0, torch.tensor([0]), torch.tensor([0])))
    weights = torch.tensor([[2.718281828 ** (-((i - j) ** 2) / 18) for j in range(32)] for i in range(32)])
    weights = weights / weights.sum(1, keepdim=True)
    naive = torch.zeros(32, 32)
    for i in range(32):
        for j in range(32):
            naive[i, j] = (weights[i][:, None] * weights[j][None] * image[1, 0, 2]).sum()
    assert torch.allclose(blurred[1, 0, 2], naive, atol=1e-5)


@pytest.mark.parametrize("side", [96, 168, 224])
def test_blur_multiplies_no_subnormal_numbers_which_are_slow_and_change_nothing(side):
    sigma = torch.linspace(3, 6, 7)
    found = gaussian_rows(side, sigma)
    assert not ((found > 0) & (found < torch.finfo(found.dtype).tiny)).any()
    place = torch.arange(side, dtype=torch.float64)
    exact = (-((place[:, None] - place) ** 2) / (2 * sigma.double()[:, None, None] ** 2)).exp()
    assert ((exact > 0) & (exact < torch.finfo(found.dtype).tiny)).any()  # there are some to leave out
    assert torch.allclose(found.double(), exact / exact.sum(dim=-1, keepdim=True), rtol=1e-5, atol=1e-29)


def test_shuffle_keeps_each_patch_its_pixels_in_another_order():
    batch = augment(Shuffle(1.0), crops())
    before = batch.clean.images.unfold(3, 8, 8).unfold(4, 8, 8).flatten(-2)
    after = batch.distorted.images.unfold(3, 8, 8).unfold(4, 8, 8).flatten(-2)
    assert torch.equal(before.sort(-1).values, after.sort(-1).values) and not torch.equal(before, after)


def test_grey_has_equal_channels_of_the_right_luma_and_mask_the_mean_colour():
    batch = augment(Grey(1.0), crops())
    red, green, blue = batch.clean.images.unbind(2)
    assert torch.allclose(batch.distorted.images[:, :, 0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-6)
    assert torch.equal(batch.distorted.images[:, :, 0], batch.distorted.images[:, :, 2])
    masked = augment(Mask(1.0), crops())
    assert torch.allclose(
        masked.distorted.images, masked.clean.images.mean((-1, -2), keepdim=True).expand(2, 3, 3, 32, 32)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [(Blur(1.0, (3, 3)), Blur(1.0, (6, 6))), (Noise(1.0, 0.1), Noise(1.0, 0.5)), (Mask(0.1), Mask(0.9))],
)
def test_every_setting_has_an_effect(one, other):
    assert not torch.equal(augment(one, crops()).distorted.images, augment(other, crops()).distorted.images)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="probability"):
        Blur(1.5)
    with pytest.raises(ValueError, match="sigma"):
        Blur(0.3, (0.0, 2.0))
    with pytest.raises(ValueError, match="std: expected a finite number"):
        Noise(0.3, float("nan"))
