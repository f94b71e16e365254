"""``python -m src adapt IMAGES --out DIR``: adapt a backbone to a folder of unlabelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src.backbones.backbone import Backbone, load_backbone
from src.callbacks.model_card import with_verdict
from src.cli import main as run
from src.commands import parsers
from src.commands.adapt.images import (
    HELD_OUT,
    MaskLocation,
    checked_source,
    data_module,
    labelled_images,
    locate_masks,
    seen_in_training,
    spread_images,
    squares,
    used_side,
)
from src.commands.adapt.outcome import Outcome, by_masks, without_labels
from src.commands.adapt.report import Page, write_report
from src.commands.adapt.request import Request, base, chosen_by_user, loading, prepared, resumption
from src.commands.adapt.settings import choose, multiple, patch_of
from src.commands.adapt.two_kinds import two_kinds
from src.commands.adapt.verdict import verdict
from src.config.composition import Config, override
from src.config.prerequisites import check_files, check_writable
from src.config.yaml_reader import read
from src.core.atomic_files import make_folder, write_text
from src.core.bfloat16 import processor_flags
from src.core.errors import UserError
from src.core.file_contents import content_fingerprint
from src.explanation.before_after import write_pictures
from src.probes.cross_validation import CrossValidatedProbes

VERDICT, CARD = "verdict.json", "README.md"
PICTURES = 4
MEASURED = 16  # images whose sizes determine the scale of views (our choice)
KINDS = 64  # images inspected for two kinds (our choice)


class Adapted(NamedTuple):
    """The adapted backbone, frozen, in evaluation mode, and the verdict on it."""

    backbone: Backbone
    outcome: Outcome


def main(arguments: Sequence[str]) -> None:
    """Adapt a backbone to a folder of images.

    Raises:
        CommandLineError: If an option is wrong.
        MissingFile, UserError: With the folder or file that cannot be used.
        KeyboardInterrupt: After Ctrl-C; the same command resumes.
    """
    options = parsers.adapt().parse_args(list(arguments))
    adapt_folder(Request(**vars(options)), Log(options.out))


def adapt_folder(options: Request, log: Log) -> Adapted:
    """Adapt a backbone to a folder of images, compare it with the frozen one, and report.

    Raises:
        UserError: With the folder or file that cannot be used, or the settings that differ from an earlier run in
            `out`.
        KeyboardInterrupt: After Ctrl-C; the same call resumes.
    """
    check_writable(options.out, "--out")
    if options.images.is_dir() and options.out.resolve().is_relative_to(options.images.resolve()):
        raise UserError(
            f"--out {options.out}: expected a folder outside {options.images}, or the run's pictures would be used as "
            "images when it is resumed; give another folder"
        )
    check_files(override(read(base(options.method)), chosen_by_user(options, None, None)))
    Backbone.patch_size_of(options.backbone)  # refuses anything but a ViT before images are decoded
    masks = locate_masks(options.images, options.masks)
    beside = masks.beside(options.images) if masks is not None and options.masks is not None else None
    source = checked_source(options.images, options.on_error, beside)
    if len(source) < 2:
        raise UserError(f"{options.images}: expected at least 2 images to adapt to, found 1; add images of the domain")
    probed = None if masks is None else compared(options, masks)
    # with masks the verdict needs no held-out images
    training = None if probed is not None else seen_in_training(len(source))
    prepared(options.out, {"contents": content_fingerprint(source)}, "images.yaml")
    log(f"{len(source)} images used" + (f", {len(source) - training} of them held out" if training else ""))
    command = trained(options, config_of(options, source, training, beside, log), log)
    adapter = options.out / "adapter.safetensors"
    # from the file, in which a guard may have restored an earlier adapter
    backbone = load_backbone(options.backbone, options.weights, str(adapter))
    backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    outcome = judged(options, backbone, adapter, source, probed, training, log)
    outcome.save(options.out / VERDICT)
    card = options.out / CARD
    if card.is_file():
        write_text(card, with_verdict(card.read_text(encoding="utf-8"), outcome.sentence))
    pictures = write_pictures(options.out / "pictures", spread_images(source, PICTURES), backbone)
    lines = list(verdict(command.trainer.callbacks))
    for line in (outcome.sentence, *lines):
        log(line)
    kinds = two_kinds(backbone, squares(spread_images(source, KINDS), multiple(168, backbone.patch_size)))
    if kinds:
        log(kinds)
    page = Page(
        options.images, len(source), options.backbone, options.weights, adapter, outcome, lines, pictures, kinds
    )
    log(f"report: {write_report(options.out, page)}")
    worse = ", which is worse than the frozen model" if outcome.word in ("harmed", "broken") else ""
    log(f"{adapter} ({adapter.stat().st_size / 1e6:.1f} MB){worse}. To use it:\n")
    for line in page.code.splitlines():
        log(f"    {line}")
    return Adapted(backbone.cpu(), outcome)


def compared(options: Request, masks: MaskLocation) -> CrossValidatedProbes:
    """Probes for a verdict by masks, with all their images and masks read.

    Raises:
        UserError: If there are too few labelled images, or one cannot be used.
    """
    labelled = labelled_images(masks, options.on_error, Backbone.patch_size_of(options.backbone))
    return CrossValidatedProbes(labelled.images, len(labelled.class_names), labelled.ignore_index, options.seed)


def config_of(options: Request, source: Any, training: int | None, masks: Path | None, log: Log) -> Config:
    """Write the run's configuration, and report the chosen settings."""
    gpu = torch.cuda.is_available()
    images = len(source)
    used = used_side(spread_images(source, MEASURED), patch_of(options.backbone))
    settings = choose(training or images, gpu, options.backbone, processor_flags(), options.method, used)
    if options.max_steps is None:
        device = torch.cuda.get_device_name() if gpu else "the CPU"
        log(settings.sentence(training or images, device))
    else:
        log(settings.sentence(training or images, "this machine") + f"; but {options.max_steps} steps, as requested")
    return override(
        read(base(options.method)), {**settings.changes(), **chosen_by_user(options, training, masks), **log.changes()}
    )


def trained(options: Request, config: Config, log: Log) -> Any:
    """Train, or resume; return the finished command line."""
    try:
        return run(["fit", "--config", str(prepared(options.out, config)), *loading(), *resumption(options.out)])
    except KeyboardInterrupt:
        log("interrupted; run the same command again to resume")
        raise


def judged(
    options: Request,
    backbone: Backbone,
    adapter: Path,
    source: Any,
    probed: CrossValidatedProbes | None,
    training: int | None,
    log: Log,
) -> Outcome:
    """Judge by masks if there are any, else by the dense structure of held-out images."""
    if probed is not None:
        return by_masks(backbone, adapter, probed, log)
    held = None
    if training is not None:
        held = data_module(root=options.images, on_error=options.on_error, max_images=training).held_out_source()
    images = spread_images(source if held is None else held, HELD_OUT)
    return without_labels(backbone, squares(images, multiple(168, backbone.patch_size)), held is not None)


class Log:
    """Progress of an adaptation, on the terminal and in `adapt.log`.

    Args:
        folder: Where `adapt.log` goes.
        quiet: Only write the file; show neither a progress bar nor a model summary.
    """

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.path = folder / "adapt.log"
        self.quiet = quiet

    def changes(self) -> Config:
        """Dotted keys of the configuration."""
        return {"trainer.enable_progress_bar": False, "trainer.enable_model_summary": False} if self.quiet else {}

    def __call__(self, text: str) -> None:
        """Report one line."""
        if not self.quiet:
            print(text, flush=True)
        make_folder(self.path.parent)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
