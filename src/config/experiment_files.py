"""Locate configurations by relative path, in the current folder or in the installed package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src.core.import_path import HOME

FOLDER = "experiments"


def located(path: Path) -> Path:
    """Return the path if it exists, else the package's file of the same name."""
    if path.is_absolute() or path.parts[:1] != (FOLDER,) or path.exists():
        return path
    packaged = HOME / path
    return packaged if packaged.is_file() else path


def located_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with located ``--config`` files."""
    result: list[str] = []
    for position, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        if option in ("--config", "-c") and equals:
            word = f"{option}={located(Path(value))}"
        elif position and arguments[position - 1] in ("--config", "-c"):
            word = str(located(Path(word)))
        result.append(word)
    return result
