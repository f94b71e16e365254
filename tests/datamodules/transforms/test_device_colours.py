"""Colours changed on the device: each change is albumentations', and so is the distribution of all together."""

from __future__ import annotations

from collections.abc import Callable

import albumentations
import numpy as np
import pytest
import torch
from albumentations.augmentations.pixel import functional as pixel
from scipy.stats import chisquare, ks_2samp
from torch import Tensor

from datamodules.transforms import device_colours
from datamodules.transforms.device_colours import DeviceColours, Draws, apply, blur, draw
from datamodules.transforms.multi_crop import DINO_BLUR_SOLARIZE, dino_photometric
from datamodules.views import Crops, Views
from src.core.keyed_random import KeyedRandom
from tests.tiny import random_crops

SIDE = 32


def picture(seed: int = 0) -> np.ndarray:
    """A smooth colourful image, uint8 `[S, S, 3]`."""
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (large[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255


def levels(image: Tensor) -> np.ndarray:
    return (image[0] * 255).round().permute(1, 2, 0).numpy()


# Largest and mean difference in levels: albumentations cuts fractions off, and its hue has 180 levels.
CHANGES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[np.ndarray, float], np.ndarray], int, float]] = {
    "brightness": (device_colours._brightness, pixel.adjust_brightness_torchvision, 1, 0.6),
    "contrast": (device_colours._contrast, pixel.adjust_contrast_torchvision, 1, 0.6),
    "saturation": (device_colours._saturation, pixel.adjust_saturation_torchvision, 1, 0.6),
    "hue": (device_colours._hue, pixel.adjust_hue_torchvision, 12, 3),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("strength", [-0.9, -0.3, 0.2, 1.0])
def test_a_change_is_albumentations_to_its_rounding(change: str, strength: float) -> None:
    ours, theirs, largest, mean = CHANGES[change]
    factor = 0.1 * strength if change == "hue" else 1 + 0.4 * strength
    for seed in range(5):
        found = levels(ours(tensor(picture(seed)), torch.tensor(factor).view(1, 1, 1, 1)))
        difference = np.abs(found - theirs(picture(seed), factor))
        assert difference.max() <= largest and difference.mean() <= mean


@pytest.mark.parametrize("sigma", [0.1, 0.28, 0.29, 0.6, 1.3, 2.0])
def test_a_blur_is_albumentations(sigma: float) -> None:
    theirs = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1.0)(image=picture())["image"]
    found = levels(blur(tensor(picture()), torch.tensor([sigma])))
    assert np.abs(found - theirs).max() <= 1


def test_grey_and_solarized_are_albumentations() -> None:
    neutral = Draws(
        torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        torch.arange(4)[None],
        torch.tensor([True]),
        torch.zeros(1),
        torch.zeros(1) > 0,
    )
    grey = albumentations.ToGray(p=1.0)(image=picture())["image"]
    assert np.abs(levels(apply(tensor(picture()), neutral)) - grey).max() <= 1
    solarized = neutral._replace(grey=torch.tensor([False]), solarize=torch.tensor([True]))
    theirs = albumentations.Solarize(threshold_range=(0.5, 0.5), p=1.0)(image=picture())["image"]
    np.testing.assert_array_equal(levels(apply(tensor(picture()), solarized)), theirs)
    untouched = neutral._replace(grey=torch.tensor([False]))
    np.testing.assert_array_equal(levels(apply(tensor(picture()), untouched)), picture())


def many(count: int) -> KeyedRandom:
    return KeyedRandom(3, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_draws_have_dinos_probabilities_ranges_and_orders() -> None:
    count = 6000
    draws = draw(many(count), list(DINO_BLUR_SOLARIZE[:2]), "test")
    jittered = (draws.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    blurred = draws.sigma.view(2, count) > 0
    solarized = draws.solarize.view(2, count)
    for share, expected in (
        (jittered, 0.8), (draws.grey, 0.2), (blurred[0], 1.0), (blurred[1], 0.1), (solarized[0], 0.0),
        (solarized[1], 0.2),
    ):  # fmt: skip
        assert float(share.float().mean()) == pytest.approx(expected, abs=0.02)
    for column, (low, high) in enumerate(((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1))):
        uniform = (draws.factors[jittered, column].numpy() - low) / (high - low)
        assert ks_2samp(uniform, np.linspace(0, 1, 5000)).pvalue > 1e-3
    assert ks_2samp(draws.sigma.view(2, count)[0].numpy(), np.linspace(0.1, 2, 5000)).pvalue > 1e-3
    orders = (draws.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    seen = torch.unique(orders, return_counts=True)[1]
    assert len(seen) == 24 and chisquare(seen.numpy()).pvalue > 1e-3
    correlation = np.corrcoef(np.stack([jittered.numpy(), draws.grey.numpy(), draws.solarize.numpy()]))
    assert np.abs(correlation - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("view", [0, 1, 2])
def test_all_changes_together_are_distributed_as_albumentations(view: int) -> None:
    """Brightness, contrast, colourfulness, sharpness and a channel of the result, by Kolmogorov and Smirnov."""
    count, image = 1200, picture(1)

    def statistics(images: np.ndarray) -> np.ndarray:
        grey = images.mean(axis=3)
        edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2))
        colour = images.std(axis=3).mean(axis=(1, 2))
        return np.stack(
            [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), colour, edges, images[..., 0].mean(axis=(1, 2))]
        )

    transform = dino_photometric(*DINO_BLUR_SOLARIZE[view])
    transform.set_random_seed(0)
    theirs = np.stack([transform(image=image)["image"] for _ in range(count)]).astype(float)
    draws = draw(many(count), [DINO_BLUR_SOLARIZE[view]], "test")
    changed = apply(tensor(image).expand(count, -1, -1, -1), draws)
    ours = (changed * 255).round().permute(0, 2, 3, 1).numpy().astype(float)
    for one, other in zip(statistics(ours), statistics(theirs), strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3


def test_crops_keep_their_geometry_and_type_and_depend_on_image_and_epoch_alone() -> None:
    crops = random_crops(3, side=32, local=2)
    changed = DeviceColours(1)(crops)
    assert changed.global_views.images.dtype == torch.uint8 and changed.local_views is not None
    assert changed.global_views.images.shape == crops.global_views.images.shape
    assert torch.equal(changed.global_views.boxes, crops.global_views.boxes)
    assert not torch.equal(changed.global_views.images, crops.global_views.images)

    def only(views: Views, place: int) -> Views:
        return Views(*(part[:, place : place + 1] for part in views))

    assert crops.local_views is not None
    alone = Crops(only(crops.global_views, 2), only(crops.local_views, 2), crops.indices[2:], crops.epoch[2:])
    again = DeviceColours(1)(alone)
    assert torch.equal(again.global_views.images[:, 0], changed.global_views.images[:, 2])
    later = DeviceColours(1)(alone._replace(epoch=alone.epoch + 1))
    assert not torch.equal(later.global_views.images, again.global_views.images)
