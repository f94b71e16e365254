"""Distributions built from a copy of the checkout, so that nothing is left in it, and a place to try them in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from tests.command_line import ROOT

SOURCES = ("src", "datamodules", "experiments", "glare.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def pip(*arguments: str) -> None:
    """Run this environment's pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def copied(folder: Path, names: tuple[str, ...] = SOURCES) -> Path:
    """Copy parts of the checkout, without caches and runs."""
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def built_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a copy in `source` into a folder."""
    pip("wheel", str(copied(source)), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("glare_lightning-*.whl")
    return built


def strange_folder(parent: Path) -> Path:
    """A folder with a space and an umlaut in its name, a `src` package of its own, weights, and a few images."""
    folder = parent / "meine Wälder"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (folder / "Bilder").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(folder / "Bilder" / f"{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "test_vit.pth")
    return folder
