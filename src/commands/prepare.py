"""``python -m src prepare NAME``: download, convert and verify a data set, or explain how to get it."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.preparation import prepare
from src.commands.options import OptionParser
from src.core.errors import CommandLineError


def main(argv: list[str]) -> int:
    """Prepare one data set and print its contents.

    Args:
        argv: ``NAME [--root FOLDER] [--verify-only]``.

    Returns:
        0 if the data set is complete.
    """
    options = _parser().parse_args(argv)
    home = os.environ.get("DATA_ROOT")
    if options.root is None and home is None:
        raise CommandLineError(f"expected --root FOLDER, or DATA_ROOT, the folder that holds {options.name}/")
    root = options.root or Path(home or "", options.name)
    print(prepare(options.name, root, options.verify_only))
    return 0


def _parser() -> OptionParser:
    parser = OptionParser(prog="python -m src prepare", description=__doc__)
    parser.add_argument("name", metavar="NAME", choices=list(CATALOGUE), help=", ".join(CATALOGUE))
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="folder of the data set (default: $DATA_ROOT/NAME)")
    parser.add_argument("--verify-only", action="store_true", help="only decode and check the existing files")
    return parser
