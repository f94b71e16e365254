"""Choose the settings of `adapt` from the number of images and the device; every number here is our choice."""

import re
from dataclasses import dataclass
from typing import Literal

from src.config.composition import Config
from src.core.bfloat16 import computes_bfloat16

Method = Literal["glare-calibrated", "glare"]
ZOOM = 0.75, 1.5  # smallest and largest magnification of a view relative to the image in use (our choice)
METHODS: dict[Method, str] = {"glare-calibrated": "the calibrated preset", "glare": "pure GLARE"}


@dataclass(frozen=True)
class Settings:
    """Method and sizes of a continual pre-training."""

    method: Method
    steps: int
    batch: int
    side: int  # of a view, pixels
    prototypes: int
    lr: float
    precision: str
    scale: tuple[float, float] | None = (
        None  # range of global views' share of an image's area; None for the method's own
    )

    def changes(self) -> Config:
        """Dotted keys of a configuration."""
        return {
            "trainer.max_steps": self.steps,
            "trainer.precision": self.precision,
            "data.init_args.batch_size": self.batch,
            "data.init_args.size": self.side,
            "model.init_args.head.init_args.prototypes": self.prototypes,
            "model.init_args.optimisation.lr": self.lr,
            **({} if self.scale is None else {"data.init_args.global_crops_scale": list(self.scale)}),
        }

    def sentence(self, images: int, device: str) -> str:
        """Describe the settings in one sentence."""
        epochs = self.steps * self.batch / images
        share = "" if self.scale is None else f" on {self.scale[0]:.0%} to {self.scale[1]:.0%} of an image"
        return (
            f"chosen for {images} images on {device}: {METHODS[self.method]}, {self.steps} steps of {self.batch} "
            f"images ({epochs:.1f} epochs), views of {self.side} px{share}, {self.prototypes} prototypes, "
            f"learning rate {self.lr:g}, {self.precision}"
        )


def choose(
    images: int,
    gpu: bool,
    backbone: str,
    cpu_flags: str = "",
    method: Method = "glare-calibrated",
    used: float | None = None,
) -> Settings:
    """Choose settings for a number of images.

    Args:
        images: Number of images.
        gpu: Use a GPU.
        backbone: timm name, which determines the patch size and so the size of views.
        cpu_flags: Instruction sets of the processor; bfloat16 halves the time of a step.
        method: The calibrated preset, or pure GLARE.
        used: Side of a square as large as the images in use, pixels; None if unknown.
    """
    patch = patch_of(backbone)
    precision = "bf16-mixed" if gpu or computes_bfloat16(cpu_flags) else "32-true"
    if method == "glare-calibrated":
        return _calibrated(images, gpu, patch, precision, used)
    return _glare(images, gpu, patch, precision)


def _calibrated(images: int, gpu: bool, patch: int, precision: str, used: float | None) -> Settings:
    """The preset of docs/calibrated.md: 150 steps, after which little changes on a small folder.

    On a GPU views are larger, a step has more images, and every image is seen once, up to 1,000 steps.
    """
    batch, side = min(16 if gpu else 8, images), multiple(224 if gpu else 168, patch)
    steps = max(150, min(images // batch, 1000)) if gpu else 150
    prototypes = min(256, 64 * images)  # at most half as many centroids as tokens
    scale = None if used is None else crops_scale(side, used)
    return Settings("glare-calibrated", steps, batch, side, prototypes, 1e-3, precision, scale)


def _glare(images: int, gpu: bool, patch: int, precision: str) -> Settings:
    """Choose the presets of pure GLARE.

    On a CPU the small-run preset (docs/method.md, section 9), half an hour on 2 cores, with fewer steps for few images.
    On a GPU about 100 epochs (the paper's number), at most about a day, with more prototypes for more images.
    """
    if not gpu:
        batch = min(8, images)
        steps = min(440, max(150, 20 * images // batch))
        return Settings("glare", steps, batch, multiple(168, patch), 1024, 1e-3, precision)
    batch = min(64, images)
    steps = min(20_000, max(400, 100 * images // batch))
    prototypes = 1024 if images < 2_000 else 4096 if images < 20_000 else 8192
    return Settings("glare", steps, batch, multiple(224, patch), prototypes, 1e-3 if batch < 32 else 5e-4, precision)


def crops_scale(side: int, used: float) -> tuple[float, float]:
    """Range of the share of an image that views cover, so that objects have about the same size as in use.

    Args:
        side: Side of a view, pixels.
        used: Side of a square as large as the images in use, pixels.
    """
    least, largest = (min(1.0, (side / (zoom * used)) ** 2) for zoom in reversed(ZOOM))
    return round(least, 4), round(largest, 4)


def patch_of(backbone: str) -> int:
    """Patch size in a timm name, in pixels."""
    found = re.search(r"patch(\d+)", backbone)
    return int(found[1]) if found else 16


def multiple(side: int, patch: int) -> int:
    """Round a side to a multiple of the patch size, at least two patches."""
    return max(2, round(side / patch)) * patch
