"""DINO's colour augmentation on the device, a whole batch at a time; the distribution is that of `dino_photometric`.

Shapes: V views · B images · S side in pixels · n = V · B.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.transforms.multi_crop import DINO_BLUR_SOLARIZE
from datamodules.views import Crops, Views
from src.core.keyed_random import KeyedRandom

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV's grey
_REACH = 7  # pixels of the widest blur to either side: 3.5 standard deviations of at most 2, as Pillow cuts them


class Draws(NamedTuple):
    """Parameters of the changes, one row for each view of each image.

    Attributes:
        factors: Brightness, contrast and saturation as factors, and the turn of the hue as a share of the circle;
            float `[n, 4]`. Neutral (1, 1, 1, 0) without jitter.
        order: The order in which they are applied, int64 `[n, 4]`.
        grey: True for images that become grey, bool `[n]`.
        sigma: Standard deviation of the blur in pixels, float `[n]`; 0 for none.
        solarize: True for images that are solarized, bool `[n]`.
    """

    factors: Tensor
    order: Tensor
    grey: Tensor
    sigma: Tensor
    solarize: Tensor


class DeviceColours:
    """Changes the colours of a batch of crops on its own device.

    Every draw is a function of (seed, epoch, index) alone, as in the loader, but a different one.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, crops: Crops) -> Crops:
        """The same crops with augmented colours.

        Args:
            crops: Views, uint8 `[V, B, 3, S, S]`.
        """
        random = KeyedRandom(self.seed, crops.epoch, crops.indices)
        first, second, local = DINO_BLUR_SOLARIZE
        views = self._changed(crops.global_views, [first, second], random, "global")
        if crops.local_views is None:
            return crops._replace(global_views=views)
        count = len(crops.local_views.images)
        return crops._replace(
            global_views=views, local_views=self._changed(crops.local_views, [local] * count, random, "local")
        )

    def _changed(
        self, views: Views, probabilities: list[tuple[float, float]], random: KeyedRandom, purpose: str
    ) -> Views:
        draws = draw(random, probabilities, purpose)
        images = views.images.flatten(0, 1).float() / 255
        changed = apply(images, draws).mul_(255).round_().to(torch.uint8)
        return views._replace(images=changed.view_as(views.images))


def draw(random: KeyedRandom, probabilities: list[tuple[float, float]], purpose: str) -> Draws:
    """Draw the parameters of V views of B images, views first.

    Args:
        random: Keyed random numbers of the batch.
        probabilities: Of blur and solarization, for each view.
        purpose: Name that separates these draws from others.
    """
    views, device = len(probabilities), random.indices.device

    def uniform(name: str, *shape: int) -> Tensor:
        return random.uniform(f"colours/{purpose}/{name}", views, *shape).transpose(0, 1).flatten(0, 1).float()

    of_view = torch.tensor(probabilities, device=device).repeat_interleave(len(random.indices), dim=0)  # [n, 2]
    spread, neutral = (torch.tensor(values, device=device) for values in ((0.4, 0.4, 0.2, 0.1), (1.0, 1.0, 1.0, 0.0)))
    jittered = (uniform("jitter") < 0.8)[:, None]
    factors = neutral + jittered * spread * (2 * uniform("factors", 4) - 1)
    blurred = uniform("blur") < of_view[:, 0]
    return Draws(
        factors=factors,
        order=uniform("order", 4).argsort(dim=-1),
        grey=uniform("grey") < 0.2,
        sigma=blurred * (0.1 + 1.9 * uniform("sigma")),
        solarize=uniform("solarize") < of_view[:, 1],
    )


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Change colours: jitter, grey, blur, solarization, in this order.

    Args:
        images: Float `[n, 3, S, S]` in [0, 1].
        draws: One row per image.

    Returns:
        The same shape, in [0, 1].
    """
    steps = (_brightness, _contrast, _saturation, _hue)
    neutral = (1.0, 1.0, 1.0, 0.0)
    for place in range(4):
        for which, step in enumerate(steps):
            here = draws.order[:, place] == which
            factor = torch.where(here, draws.factors[:, which], torch.full_like(draws.sigma, neutral[which]))
            images = step(images, factor.view(-1, 1, 1, 1))
    images = torch.where(_column(draws.grey), _luma(images).expand_as(images), images)
    images = blur(images, draws.sigma)
    return torch.where(_column(draws.solarize) & (images >= 0.5), 1 - images, images)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by its own Gaussian, cut at 3.5 σ; the border is mirrored about its last pixel.

    Args:
        images: `[n, 3, S, S]`.
        sigma: In pixels, `[n]`; 0 leaves an image as it is.
    """
    count, channels, height, width = images.shape
    place = torch.arange(-_REACH, _REACH + 1, device=images.device)
    weights = (-0.5 * (place / sigma.clamp(min=1e-3)[:, None]) ** 2).exp()
    weights = weights * (place.abs() <= (3.5 * sigma[:, None]).floor())
    kernel = (weights / weights.sum(dim=1, keepdim=True)).to(images.dtype).repeat_interleave(channels, dim=0)[:, None]
    groups = count * channels
    padded = F.pad(images.reshape(1, groups, height, width), (_REACH,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel[..., None, :], groups=groups)
    return F.conv2d(rows, kernel[..., None], groups=groups).view_as(images)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(images).mean(dim=(1, 2, 3), keepdim=True)
    return (images * factor + mean * (1 - factor)).clamp_(0, 1)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + _luma(images) * (1 - factor)).clamp_(0, 1)


def _hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue: each channel of a pixel is piecewise linear in its hue, between minimum and maximum."""
    most, least = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    chroma = most - least
    red, green, blue = images.split(1, dim=1)
    safe = chroma.clamp(min=1e-12)
    sixth = torch.where(
        most == red,
        (green - blue) / safe,
        torch.where(most == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    at = sixth + 6 * turn - torch.tensor([3.0, 5.0, 1.0], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    # distance on the circle of six from the hue at which a channel is lowest
    low = ((at + 3) % 6 - 3).abs()
    turned = least + chroma * (low - 1).clamp(0, 1)
    return torch.where(turn == 0, images, turned)
