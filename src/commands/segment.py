"""``python -m src segment IMAGES --masks DIR --out RUN``: from a few masks to a mask for every image."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.backbones.backbone import load_backbone
from src.cli import main as run
from src.commands import parsers
from src.commands.adapt.command import VERDICT, Log, adapt_folder
from src.commands.adapt.images import MaskLocation, data_module, locate_masks, spread_images
from src.commands.adapt.outcome import Outcome
from src.commands.adapt.report import Page, write_report
from src.commands.adapt.request import Request, base, chosen_by_user, prepared, resumption
from src.commands.adapt.settings import multiple, patch_of
from src.config.composition import Config, override
from src.config.prerequisites import check_files, check_writable
from src.config.yaml_reader import read
from src.core.errors import UserError
from src.core.file_contents import content_fingerprint
from src.core.import_path import HOME
from src.explanation.before_after import write_pictures

BASE = HOME / "experiments" / "segment" / "folder" / "linear.yaml"
STEPS = 1000  # training steps of the head, about (our choice)
EPOCHS = (20, 300)  # epochs for many and for few masks (our choice)
BATCH = 16
SIDE = 252  # side of an image in the head's training, pixels, about
SHOWN = 4


def main(arguments: Sequence[str]) -> None:
    """Segment a folder of images; complete stages are skipped.

    Raises:
        CommandLineError: If an option is wrong.
        MissingFile, UserError: With the folder or file that cannot be used.
        KeyboardInterrupt: After Ctrl-C; the same command resumes.
    """
    options = parsers.segment().parse_args(list(arguments))
    check_writable(options.out, "--out")
    check_files(override(read(base(options.method)), chosen_by_user(Request(**vars(options)), None, None)))
    location = locate_masks(options.images, options.masks)
    if location is None:
        raise UserError(f"{options.images}: expected --masks, or a folder masks in it; found neither")
    data = data_module(root=location.root, masks=location.masks, on_error=options.on_error, task="segment")
    labelled = len(data.source("train"))
    len(data.source("val"))  # raises for fewer than five masks before anything is trained
    contents = content_fingerprint(data.labelled_source())
    prepared(options.out, {**requested(options, labelled), "contents": contents}, "segment.yaml")
    log = Log(options.out)
    outcome = adapted(options, log)
    keeps = outcome.recommended == "adapted"
    adapter = options.out / "adapt" / "adapter.safetensors" if keeps else None
    log(f"backbone: {'adapted, which helped' if keeps else f'frozen; the verdict on adaptation was {outcome.word!r}'}")
    score = head(options, location, labelled, adapter, log)
    log(f"head trained on {labelled} masks: mIoU {100 * score:.1f} on the held-out fifth of the masks")
    predicted = predictions(options, location)
    log(f"masks of all images: {predicted / 'masks'}")
    log(f"report: {report(options, outcome, predicted)}")


def requested(options: argparse.Namespace, labelled: int) -> Config:
    """Options that must not change within a run folder."""
    texts = {name: str(value) for name, value in vars(options).items() if name not in ("out", "max_steps", "seed")}
    return {**texts, "max_steps": options.max_steps, "seed": options.seed, "masks of": labelled}


def adapted(options: argparse.Namespace, log: Log) -> Outcome:
    """The verdict on an adaptation, which is run unless complete."""
    folder = options.out / "adapt"
    if (folder / VERDICT).is_file() and (folder / "adapter.safetensors").is_file():
        log(f"adapted before: {folder}")
        return Outcome.load(folder / VERDICT)
    return adapt_folder(Request(**{**vars(options), "out": folder}), Log(folder)).outcome


def head(options: argparse.Namespace, location: MaskLocation, labelled: int, adapter: Path | None, log: Log) -> float:
    """Train the head unless it is complete; return its mIoU on the held-out fifth of the masks, 0 to 1."""
    folder = options.out / "head"
    if (score := scored(folder)) is not None:
        log(f"using the head trained earlier: {folder}")
        return score
    config = override(read(BASE), settings(options, location, labelled, adapter))
    path = prepared(folder, config, "fit.yaml")
    try:
        run(["fit", "--config", str(path), *resumption(folder)])
        run(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")])
    except KeyboardInterrupt:
        log("interrupted; run the same command again to resume")
        raise
    found = scored(folder)
    assert found is not None
    return found


def settings(options: argparse.Namespace, location: MaskLocation, labelled: int, adapter: Path | None) -> Config:
    """The head's configuration as dotted keys: about `STEPS` steps, within limits on epochs."""
    epochs = min(max(round(STEPS / math.ceil(labelled / BATCH)), EPOCHS[0]), EPOCHS[1])
    backbone = "model.init_args.backbone.init_args"
    return {
        "seed_everything": options.seed,
        "trainer.default_root_dir": str(options.out / "head"),
        "trainer.max_epochs": epochs,
        "trainer.check_val_every_n_epoch": epochs,
        f"{backbone}.name": options.backbone,
        f"{backbone}.weights": options.weights,
        f"{backbone}.adapter": None if adapter is None else str(adapter),
        "data.init_args.root": str(location.root),
        "data.init_args.masks": None if location.masks is None else str(location.masks),
        "data.init_args.on_error": options.on_error,
        "data.init_args.batch_size": BATCH,
        "data.init_args.size": multiple(SIDE, patch_of(options.backbone)),
        "data.init_args.seed": options.seed,
    }


def scored(folder: Path) -> float | None:
    """mIoU of a tested head; None if it is not tested yet."""
    try:
        found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        return float(found["miou"]) if found["stage"] == "test" else None  # a fit writes its validations there, too
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def predictions(options: argparse.Namespace, location: MaskLocation) -> Path:
    """Predict every image without a predicted mask; return their folder."""
    folder, fitted = options.out / "predictions", options.out / "head"
    arguments = ["predict", "--config", str(fitted / "config.yaml"), "--predictions.output", str(folder)]
    arguments += ["--ckpt_path", str(fitted / "checkpoints" / "last.ckpt"), "--predictions.existing", "skip"]
    images = options.images / "images" if (options.images / "images").is_dir() else options.images
    split = (images / "train").is_dir() or (options.images / "train.txt").is_file()
    if split or location.root != options.images.resolve():  # otherwise the labelled data are these images
        arguments += ["--data.init_args.predict_on", str(images.resolve())]
    run(arguments)
    return folder


def report(options: argparse.Namespace, outcome: Outcome, predicted: Path) -> Path:
    """Write the page: verdict, predicted masks, features."""
    adapter = options.out / "adapt" / "adapter.safetensors"
    overlays = sorted((predicted / "overlays").rglob("*.png"))
    shown = [
        overlays[place] for place in np.linspace(0, len(overlays) - 1, min(SHOWN, len(overlays))).round().astype(int)
    ]
    source: Any = data_module(root=options.images, on_error=options.on_error).source("train")
    backbone = load_backbone(options.backbone, options.weights, str(adapter))
    pictures = write_pictures(options.out / "pictures", spread_images(source, SHOWN), backbone)
    page = Page(
        options.images, len(overlays), options.backbone, options.weights, adapter, outcome, (), pictures, masks=shown
    )  # fmt: skip
    return write_report(options.out, page)
