"""Settings that `adapt` chooses from the number of images and the device; every number here is our choice."""

import re
from dataclasses import dataclass
from pathlib import Path

from src.config.composition import Config


@dataclass(frozen=True)
class Settings:
    """Sizes of a continual pre-training."""

    steps: int
    batch: int
    side: int  # of a view, pixels
    prototypes: int
    lr: float
    precision: str

    def changes(self) -> Config:
        """As dotted keys of a configuration."""
        return {
            "trainer.max_steps": self.steps,
            "trainer.precision": self.precision,
            "data.init_args.batch_size": self.batch,
            "data.init_args.size": self.side,
            "model.init_args.head.init_args.prototypes": self.prototypes,
            "model.init_args.optimisation.lr": self.lr,
        }

    def sentence(self, images: int, device: str) -> str:
        """Describe the chosen settings in one sentence."""
        epochs = self.steps * self.batch / images
        return (
            f"chosen for {images} images on {device}: {self.steps} steps of {self.batch} images ({epochs:.1f} epochs), "
            f"views of {self.side} px, {self.prototypes} prototypes, learning rate {self.lr:g}, {self.precision}"
        )


def choose(images: int, gpu: bool, backbone: str, cpu_flags: str = "") -> Settings:
    """Settings for a number of images.

    On a CPU the small-run preset (docs/method.md, section 9), which 2 cores finish in half an hour, and fewer steps
    where there are too few images to see anything new in that many. On a GPU about 100 epochs (the paper's number),
    bounded to what a day or so can do, and more prototypes where there is more to tell apart.

    Args:
        images: how many there are.
        gpu: whether there is one.
        backbone: its timm name, which tells the patch size that views must be a multiple of.
        cpu_flags: what the processor says it can do; with bfloat16 among it a step takes half the time.
    """
    found = re.search(r"patch(\d+)", backbone)
    patch = int(found[1]) if found else 16
    if not gpu:
        batch = min(8, images)
        steps = min(440, max(150, 20 * images // batch))
        precision = "bf16-mixed" if re.search(r"\b(avx512_bf16|amx_bf16)\b", cpu_flags) else "32-true"
        return Settings(steps, batch, multiple(168, patch), 1024, 1e-3, precision)
    batch = min(64, images)
    steps = min(20_000, max(400, 100 * images // batch))
    prototypes = 1024 if images < 2_000 else 4096 if images < 20_000 else 8192
    return Settings(steps, batch, multiple(224, patch), prototypes, 1e-3 if batch < 32 else 5e-4, "bf16-mixed")


def cpu_flags() -> str:
    """Instruction sets that the processor reports; empty where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith("flags")), "")


def multiple(side: int, patch: int) -> int:
    """The multiple of the patch size that is nearest to `side`, at least two patches."""
    return max(2, round(side / patch)) * patch
