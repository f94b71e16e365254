"""Patch-level augmentation, batched, on the device (paper, patch-level augmentation; docs/method.md, section 3).

Each patch of the student's input is replaced, independently with probability ρ, by a strongly distorted version.
Shapes: V views · B images · S side in pixels · p patch side · N = (S / p)² patches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from datamodules.views import Batch, Crops
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.core.numbers import check_number
from src.core.resizing import unit_range


class PatchAugmentation(ABC):
    """Distorts random patches; subclasses define the distortion.

    Args:
        ratio: ρ, probability that a patch is distorted; 0.3 is our choice.
    """

    def __init__(self, ratio: float = 0.3) -> None:
        if not 0 <= ratio <= 1:
            raise UserError(f"ratio is a probability, got {ratio}")
        self.ratio = ratio

    @abstractmethod
    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        """Distort every patch of `[V, B, 3, S, S]`, float in [0, 1]; the caller selects the distorted ones."""

    def __call__(self, crops: Crops, patch_size: int, random: KeyedRandom, step: int = 0) -> Batch:
        """Clean and distorted views of a batch.

        Args:
            crops: Views as they come from the loader, uint8 or float in [0, 1].
            patch_size: p of the backbone.
            random: Keyed random numbers of the batch.
            step: Optimiser step.
        """
        clean = crops.global_views._replace(images=unit_range(crops.global_views.images))
        views, _, _, side, _ = clean.images.shape
        grid = side // patch_size
        mask = (random.uniform("patch/mask", views, grid * grid) < self.ratio).transpose(0, 1)  # [V, B, N]
        pixels = mask.unflatten(-1, (1, grid, grid)).repeat_interleave(patch_size, -1).repeat_interleave(patch_size, -2)
        distorted = torch.where(pixels, self.distort(clean.images, patch_size, random), clean.images)
        local_views = crops.local_views
        if local_views is not None:
            local_views = local_views._replace(images=unit_range(local_views.images))
        return Batch(clean, clean._replace(images=distorted), mask, local_views, step)


class Blur(PatchAugmentation):
    """Strong Gaussian blur, one sigma per view (the paper's default strategy).

    The blur is a product with a banded matrix on either side, so a batch takes two matrix products.

    Args:
        ratio: ρ.
        sigma: Range of sigma in pixels; 3–6 is our choice.
    """

    def __init__(self, ratio: float = 0.3, sigma: tuple[float, float] = (3.0, 6.0)) -> None:
        super().__init__(ratio)
        if not 0 < sigma[0] <= sigma[1]:
            raise UserError(f"sigma needs 0 < low ≤ high in pixels, got {sigma}")
        self.sigma = tuple(sigma)

    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        low, high = self.sigma
        sigma = (low + (high - low) * random.uniform("patch/sigma", images.shape[0])).transpose(0, 1)  # [V, B]
        matrix = gaussian_rows(images.shape[-1], sigma.to(images.dtype))[:, :, None]  # [V, B, 1, S, S]
        return matrix @ images @ matrix.transpose(-1, -2)


def gaussian_rows(side: int, sigma: Tensor) -> Tensor:
    """Blur of `side` pixels as a matrix whose rows sum to one, `[..., side, side]`.

    Weights below 1e-30 are zero: they change nothing, and processors multiply subnormal numbers ten times slower.

    Args:
        side: S.
        sigma: In pixels, `[...]`.
    """
    place = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    weights = (-((place[:, None] - place) ** 2) / (2 * sigma[..., None, None] ** 2)).exp()
    weights = torch.where(weights < 1e-30, 0, weights)
    return weights / weights.sum(dim=-1, keepdim=True)


class Noise(PatchAugmentation):
    """Additive Gaussian noise.

    Args:
        ratio: ρ.
        std: Standard deviation in units of the full intensity range; 0.3 is our choice.
    """

    def __init__(self, ratio: float = 0.3, std: float = 0.3) -> None:
        super().__init__(ratio)
        check_number("std", std)
        self.std = std

    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        views, _, *shape = images.shape
        noise = random.normal("patch/noise", views, *shape).transpose(0, 1).to(images.dtype)
        return (images + self.std * noise).clamp(0, 1)


class Grey(PatchAugmentation):
    """Luma (ITU-R BT.601) in all three channels."""

    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        red, green, blue = images.split(1, dim=-3)
        return (0.299 * red + 0.587 * green + 0.114 * blue).expand_as(images)


class Mask(PatchAugmentation):
    """Fill the patch with the view's mean colour."""

    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        return images.mean(dim=(-2, -1), keepdim=True).expand_as(images)


class Shuffle(PatchAugmentation):
    """Shuffle the pixels within each patch, in one order per view."""

    def distort(self, images: Tensor, patch_size: int, random: KeyedRandom) -> Tensor:
        views, batch, channels, side, _ = images.shape
        grid = side // patch_size
        order = random.uniform("patch/shuffle", views, patch_size**2).transpose(0, 1).argsort(dim=-1)  # [V, B, p²]
        patches = images.unflatten(-1, (grid, patch_size)).unflatten(-3, (grid, patch_size))  # [V, B, 3, g, p, g, p]
        pixels = patches.transpose(-3, -2).flatten(-2)  # [V, B, 3, g, g, p²]
        index = order[:, :, None, None, None].expand_as(pixels)
        shuffled = pixels.gather(-1, index).unflatten(-1, (patch_size, patch_size)).transpose(-3, -2)
        return shuffled.reshape(views, batch, channels, side, side)
