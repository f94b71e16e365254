"""Reading and augmenting training pairs: this project's pipeline against torchvision's v2 transforms, in one run.

    python benchmarks/reading.py --images 100
    python benchmarks/reading.py --large 6      # views of large images: whole, decoded at a fraction, from copies

Both read the same JPEG and PNG files (683×512, the size of ADE20K's) and do the same steps with the same probabilities:
random size 0.5–2, crop of 512 in which no class has more than 75 %, padding, flip, photometric distortion. Both run in
one process on one core, in turns, so that other work on the machine affects both; what is compared is processor time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from datamodules.batches import LabelledPairs, UnlabelledViews
from datamodules.reading.masks import IGNORE
from datamodules.reading.reduction import Reduction, sufficient_side
from datamodules.reading.sources import Files
from datamodules.transforms.multi_crop import GLOBAL_AREA, MultiViewCrop
from datamodules.transforms.segmentation import PAD, TrainingTransforms

CROP = 512
CLASSES = 150


def main() -> None:
    """Print images per second and core of both, and their ratio, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100, help="samples that each pipeline reads")
    parser.add_argument("--large", type=int, help="samples of large images instead, for pre-training")
    options = parser.parse_args()
    count = options.images
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if options.large:
        print(json.dumps(large_images(options.large), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        images, masks = write_pairs(Path(folder), min(count, 32))
        pipelines = {"ours": ours(Path(folder), images, masks), "torchvision": torchvision_v2(images, masks)}
        times = dict.fromkeys(pipelines, 0.0)
        for pipeline in pipelines.values():
            pipeline(0)  # the first call imports and allocates
        for i in range(count):
            for name, pipeline in pipelines.items():
                start = time.process_time()
                pipeline(i)
                times[name] += time.process_time() - start
    rates = {f"{name}_images_per_second_and_core": round(count / spent, 1) for name, spent in times.items()}
    print(json.dumps(rates | {"ratio": round(times["torchvision"] / times["ours"], 2), "images": count}, indent=2))


def write_pairs(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Images with the frequencies of photographs, and masks of smooth regions."""
    draws = np.random.default_rng(0)
    images, masks = [], []
    for i in range(count):
        pixels = np.zeros((512, 683, 3), np.float32)
        for octave in range(3, 9):  # amplitudes fall with frequency, as they do in photographs
            noise = draws.normal(0, 0.5**octave * 400, (2**octave, 2**octave * 4 // 3, 3)).astype(np.float32)
            pixels += cv2.resize(noise, (683, 512), interpolation=cv2.INTER_CUBIC)
        images.append(folder / f"{i}.jpg")
        Image.fromarray(np.clip(pixels + 120, 0, 255).astype(np.uint8)).save(images[-1], quality=90)
        regions = cv2.resize(draws.normal(0, 1, (6, 8)).astype(np.float32), (683, 512), interpolation=cv2.INTER_CUBIC)
        masks.append(folder / f"{i}.png")
        Image.fromarray(np.clip(regions * 4 + 10, 0, CLASSES - 1).astype(np.uint8)).save(masks[-1])
    return images, masks


def large_images(count: int) -> dict[str, dict[str, float]]:
    """Processor milliseconds for two views of an image of each kind, and how many times faster than from whole files.

    Photographs of 12 megapixels as JPEG, and PNGs of Cityscapes' size. Copies are made before the clock starts.
    """
    side, report = 224, {}
    enough = sufficient_side(side, GLOBAL_AREA[0])
    crop = MultiViewCrop(side)
    plain = MultiViewCrop(side, photometric=False)
    for kind, (height, width), suffix in (("photographs", (3000, 4000), "jpg"), ("Cityscapes", (1024, 2048), "png")):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"a.{suffix}"
            draws = np.random.default_rng(0)
            small = draws.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
            pixels += draws.integers(-6, 7, pixels.shape, dtype=np.int16)  # what sensors add, and PNG has to keep
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)
            ways = {
                "whole": (None, crop),
                "scaled": (Reduction(enough, scaled=True), crop),
                "copies": (Reduction(enough, copies=Path(folder) / "copies"), crop),
                "copies, colours on the device": (
                    Reduction(enough, copies=Path(folder) / "copies"),
                    plain,
                ),
            }
            views = {
                name: UnlabelledViews(Files(Path(folder), [file], reduction=reduction), how)
                for name, (reduction, how) in ways.items()
            }
            times = dict.fromkeys(views, 0.0)
            for turn in range(1 + count):  # the first one imports, allocates and makes the copies
                for name, dataset in views.items():
                    start = time.process_time()
                    dataset[turn, 0]
                    times[name] += (time.process_time() - start) if turn else 0.0
            report[kind] = {f"{name}, ms": round(1e3 * spent / count, 1) for name, spent in times.items()}
            report[kind] |= {
                f"{name}, times faster": round(times["whole"] / times[name], 2) for name in list(times)[1:]
            }
    return report


def ours(root: Path, images: list[Path], masks: list[Path]) -> Callable[[int], object]:
    """The data module's own data set, files to tensors."""
    source = Files(root, images, masks, {i: i for i in range(CLASSES)})
    pairs = LabelledPairs(source, (CROP, CROP), training=True, transforms=TrainingTransforms(CROP), seed=0)
    return lambda i: pairs[i // len(images), i % len(images)]


class PhotometricDistortion(v2.RandomPhotometricDistort):
    """Torchvision's, without its permutation of the channels, which the field's segmentation recipes do not have."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return super().make_params(flat_inputs) | {"channel_permutation": None}


def torchvision_v2(images: list[Path], masks: list[Path]) -> Callable[[int], object]:
    """The same steps with torchvision's functions, in the order and manner of its segmentation reference."""
    photometric = PhotometricDistortion(hue=(-0.1, 0.1))
    flip = v2.RandomHorizontalFlip(0.5)

    def read(i: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(i)
        with Image.open(images[i % len(images)]) as file:
            image = v2.functional.to_image(file.convert("RGB"))
        with Image.open(masks[i % len(masks)]) as file:
            mask = tv_tensors.Mask(F.pil_to_tensor(file)[0])
        factor = float(torch.empty(1).uniform_(0.5, 2.0))
        size = [round(side * factor) for side in image.shape[-2:]]
        image = F.resize(image, size, antialias=True)
        mask = F.resize(mask[None], size, interpolation=v2.InterpolationMode.NEAREST)[0]
        below, beside = max(0, CROP - size[0]), max(0, CROP - size[1])
        image = F.pad(image, [0, 0, beside, below], fill=[float(channel) for channel in PAD])
        mask = F.pad(mask[None], [0, 0, beside, below], fill=IGNORE)[0]
        for _ in range(10):
            y = int(torch.randint(mask.shape[-2] - CROP + 1, (1,)))
            x = int(torch.randint(mask.shape[-1] - CROP + 1, (1,)))
            window = mask[y : y + CROP, x : x + CROP]
            counts = torch.bincount(window.flatten().int(), minlength=256)[:IGNORE]
            if counts.max() <= 0.75 * counts.sum():
                break
        image, window = flip(tv_tensors.Image(image[:, y : y + CROP, x : x + CROP]), tv_tensors.Mask(window))
        return photometric(image), window.long()

    return read


if __name__ == "__main__":
    main()
