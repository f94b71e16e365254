"""Recognise a yaml file that belongs to another command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.core.errors import CommandLineError

_KINDS = {"fit": ("model", "fit --config"), "study": ("rows", "study"), "sweep": ("parameters", "sweep")}
"""A key that only files of this kind have, and the command that takes them."""


def check_command(path: Path, content: Mapping[str, Any], kind: str) -> None:
    """Refuse a file of another kind.

    Args:
        path: The file.
        content: Its content.
        kind: The expected kind: `fit`, `study` or `sweep`.

    Raises:
        CommandLineError: With the command for the file.
    """
    for other, (key, command) in _KINDS.items():
        if other != kind and key in content and _KINDS[kind][0] not in content:
            raise CommandLineError(f"{path} configures a {other}, not a {kind}: python -m src {command} {path}")
