"""Speed of patch distortion: batched, as in the training step, against a loop over images.

    python benchmarks/patch_augmentation.py [--views 32] [--side 224] [--threads N] [--rounds 5]

The loop is what a loader with torchvision would do: blur each image with its own sigma, then paste the chosen patches,
one at a time. Both make the same picture up to the kernel's cut-off (the largest difference is printed). Rounds
alternate, and the ratio is of each pair of rounds, so that a machine whose speed drifts does not mislead.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from datamodules.views import Crops, Views
from src.core.keyed_random import KeyedRandom
from src.core.resizing import unit_range
from src.pretraining.patch_augmentation import Blur

PATCH = 14


def loop(images: Tensor, mask: Tensor, sigma: Tensor) -> Tensor:
    """Distort `[V, B, 3, S, S]` image by image and patch by patch."""
    result = images.clone()
    grid = images.shape[-1] // PATCH
    for view in range(images.shape[0]):
        for index in range(images.shape[1]):
            width = float(sigma[view, index])
            size = 2 * int(4 * width + 0.5) + 1
            blurred = gaussian_blur(images[view, index], [size, size], [width, width])
            for patch in mask[view, index].nonzero().flatten().tolist():
                top, left = patch // grid * PATCH, patch % grid * PATCH
                place = (slice(None), slice(top, top + PATCH), slice(left, left + PATCH))
                result[view, index][place] = blurred[place]
    return result


def main() -> None:
    """Print views per second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = options.views // 2
    images = torch.randint(0, 256, (2, batch, 3, options.side, options.side), dtype=torch.uint8)
    boxes, flips = torch.tensor([0.0, 0, 1, 1]).expand(2, batch, 4), torch.zeros(2, batch, dtype=torch.bool)
    crops = Crops(Views(images, boxes, flips), None, torch.arange(batch), torch.zeros(batch, dtype=torch.int64))
    draws, blur = KeyedRandom(0, crops.epoch, crops.indices), Blur()
    sigma = (3 + 3 * draws.uniform("patch/sigma", 2)).transpose(0, 1)
    mask = blur(crops, PATCH, draws).mask
    ours, theirs = [], []
    for _ in range(options.rounds):
        began = time.perf_counter()
        batched = blur(crops, PATCH, draws).distorted.images
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        looped = loop(unit_range(images), mask, sigma)
        theirs.append(time.perf_counter() - began)
    margin = 24  # near the border the two treat the outside differently: reflected there, renormalised here
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    difference = float((batched[inside] - looped[inside]).abs().max())
    ratios = [slow / fast for fast, slow in zip(ours, theirs, strict=True)]
    print(f"{options.views} views of {options.side} px, {options.threads} threads, {options.rounds} rounds")
    print(f"batched     {options.views / statistics.median(ours):8.1f} views/s")
    print(f"image loop  {options.views / statistics.median(theirs):8.1f} views/s")
    print(f"ratio       {statistics.median(ratios):8.1f} (from {min(ratios):.1f} to {max(ratios):.1f})")
    print(f"largest difference away from the border: {difference:.4f} of the intensity range")


if __name__ == "__main__":
    main()
