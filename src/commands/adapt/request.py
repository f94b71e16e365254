"""Run of `adapt`: its configuration, written once, and its checkpoint to resume from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.commands.adapt.settings import Method
from src.config.composition import Config, differences
from src.config.yaml_reader import read, write
from src.core.atomic_files import make_folder
from src.core.checkpoint_paths import checkpoint_exists
from src.core.cores import usable_cores
from src.core.errors import UserError
from src.core.import_path import HOME

LOADERS = 2  # processes (our choice)


@dataclass(frozen=True)
class Request:
    """One requested adaptation; fields as the command's options."""

    images: Path
    out: Path
    max_steps: int | None
    seed: int
    backbone: str
    weights: str
    on_error: str
    method: Method = "glare-calibrated"
    masks: Path | None = None


def base(method: Method) -> Path:
    """Base configuration of a method."""
    return HOME / "experiments" / "pretrain" / "folder" / f"{method}.yaml"


def chosen_by_user(options: Request, training: int | None, masks: Path | None) -> Config:
    """The options as dotted keys.

    Args:
        options: Of the command line.
        training: Images to train on; None for all.
        masks: A folder of masks of some of the images, which must not be used as images. They only judge the result: a
            few would be too noisy for early stopping.
    """
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
    if options.max_steps is not None:
        changes["trainer.max_steps"] = options.max_steps
    if training is not None:
        changes["data.init_args.max_images"] = training
    if masks is not None:
        changes |= {"data.init_args.masks": str(masks), "monitor.labelled": 0}
    return changes


def prepared(folder: Path, config: Config, name: str = "adapt.yaml") -> Path:
    """Write the configuration of the run, unless the same one exists.

    Args:
        folder: Run folder; created if needed.
        config: Configuration of plain values.
        name: Name of the file in it.

    Raises:
        UserError: If the folder holds a run with other settings.
    """
    path = folder / name
    if path.is_file():
        before = read(path)
        if before != config:
            differing = ", ".join(differences(before, config))
            raise UserError(f"{folder} holds a run with other settings ({differing}); give another --out, or delete it")
    make_folder(folder)
    write(path, config)
    return path


def loading() -> list[str]:
    """The option for loader processes, no more than there are cores, of which torch warns.

    It is no part of `adapt.yaml`: a run may be resumed on another machine.
    """
    return ["--data.init_args.num_workers", str(min(LOADERS, usable_cores()))]


def resumption(folder: Path) -> list[str]:
    """The option that resumes a run, if it has a checkpoint."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    return ["--ckpt_path", str(checkpoint)] if checkpoint_exists(checkpoint) else []
