"""``python -m src push [RUN] ORG/NAME``: share an adapter and its model card on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src.backbones.adapted import ADAPTER, adapter_file
from src.backbones.adapter_file import read_metadata
from src.backbones.checkpoints.hub import push_files
from src.commands import parsers
from src.core.errors import CommandLineError, MissingFile

CARD = "README.md"
RUNS = "runs"  # default folder of runs


def main(arguments: Sequence[str]) -> None:
    """Push an adapter; only the adapter and its card are uploaded.

    Raises:
        CommandLineError: If the name is not `org/name`.
        UserError: If there is no adapter or card, the adapter is damaged, or the hub cannot be reached or refuses.
    """
    options = parsers.push().parse_args(list(arguments))
    name = options.name.removeprefix("hf://")
    if name.count("/") != 1 or not all(name.split("/")):
        raise CommandLineError(f"expected ORG/NAME, found {options.name!r}")
    if options.run is None and Path(options.name).exists():
        raise CommandLineError(f"expected ORG/NAME, found the path {options.name}; push {options.name} ORG/NAME")
    file = adapter_file(options.run or only_run())
    read_metadata(file)
    folder = file.parent
    if file.name != ADAPTER or not (folder / CARD).is_file():
        raise MissingFile(
            f"{file}: expected {ADAPTER} with its model card {CARD} beside it, as `fit` and `adapt` write both; found "
            + (f"no {CARD}" if file.name == ADAPTER else file.name)
        )
    address = push_files(folder, name, (ADAPTER, CARD), options.private)
    print(f'{address}\n\n    load_backbone(…, adapter="hf://{name}")')


def only_run() -> Path:
    """Find the run to push if none is given: the current folder, or the only run in `runs/` with an adapter.

    Raises:
        CommandLineError: If there is none, or more than one.
    """
    here = Path()
    if (here / ADAPTER).is_file():
        return here
    found = sorted(file.parent for file in (here / RUNS).glob(f"*/{ADAPTER}"))
    if len(found) != 1:
        shown = ", ".join(folder.as_posix() for folder in found[:5]) + (" and others" if len(found) > 5 else "")
        raise CommandLineError(
            f"RUN: expected {ADAPTER} in the current folder, or one run with it in {RUNS}/, found {shown or 'none'}; "
            "give the run folder: push RUN ORG/NAME"
        )
    return found[0]
