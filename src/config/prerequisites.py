"""Check a complete configuration before images are decoded and models are built, so that mistakes cost seconds."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.config.composition import Config, lookup
from src.config.defaults import defaults
from src.config.suggestions import find
from src.core.errors import CommandLineError, MissingFile, UserError

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def lacking(config: Config) -> list[str]:
    """Return a line for everything that a configuration needs and this machine lacks.

    This covers environment variables, the data folder, and files of weights and adapters.
    """
    unset: dict[str, str] = {}
    for key, text in _texts(config):
        for name in _names(text):
            if name not in os.environ:
                unset.setdefault(name, key)
    lines = [f"environment variable {name} ({key})" for name, key in unset.items()]
    root = lookup(config, "data.init_args.root")
    if root is not None and not set(_names(str(root))) & unset.keys():
        folder = Path(os.path.expandvars(str(root)))
        if not folder.is_dir():
            lines.append(f"data folder {folder}")
    return [*lines, *(line for line in missing_files(config) if not set(_names(line)) & unset.keys())]


def missing_files(config: Config) -> list[str]:
    """Return a line for each missing file of an object in a configuration.

    Classes report them by a function `missing_files` of their arguments.
    """
    lines: list[str] = []
    for _, found, arguments in _objects(config):
        if (ask := getattr(found, "missing_files", None)) is not None:
            filled = {
                key: os.path.expandvars(value) if isinstance(value, str) else value for key, value in arguments.items()
            }
            lines += [line for line in ask(filled) if line not in lines]
    return lines


def check_files(config: Config) -> None:
    """Refuse a configuration with missing files.

    Raises:
        MissingFile: With all of them.
    """
    if lines := missing_files(config):
        raise MissingFile("; ".join(lines))


LARGEST_SIDE = 2**16  # pixels of a network's input; far more than fits in any memory


def check_sizes(config: Config) -> None:
    """Refuse image sides that are not multiples of the patch size, or are larger than any image.

    Args:
        config: A configuration with its defaults.

    Raises:
        CommandLineError: With the key, the side, and the nearest multiple or the largest side.
        UserError: If the backbone does not exist.
    """
    data = lookup(config, "data.init_args") or {}
    sides = [("size", data.get("size"))]
    if data.get("task", "pretrain") == "pretrain" and data.get("local_views"):
        sides.append(("local_size", data.get("local_size")))
    for key, found, arguments in _objects(config.get("model"), "model"):
        if (ask := getattr(found, "patch_size_of", None)) is None:
            continue
        patch = ask(arguments["name"])
        for name, value in sides:
            pixels = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
            if any(side > LARGEST_SIDE for side in pixels):
                raise CommandLineError(
                    f"data.init_args.{name}: expected at most {LARGEST_SIDE:,} pixels, found {_shown(pixels)}"
                )
            if any(side % patch for side in pixels):
                better = [max(1, round(side / patch)) * patch for side in pixels]
                raise CommandLineError(
                    f"data.init_args.{name}: expected multiples of {patch}, the patch size of {arguments['name']} "
                    f"({key}), found {_shown(pixels)}; use {_shown(better)}"
                )


def check_writable(folder: str | Path, option: str = "trainer.default_root_dir") -> None:
    """Refuse a run folder that is not writable; leaves no file behind.

    Args:
        folder: The run folder, which need not exist.
        option: The option that sets it, for the message.

    Raises:
        UserError: With the folder, or the file in its way.
    """
    there = Path(folder).expanduser().absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{option}: expected a folder, found the file {there}; give another folder")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        raise UserError(
            f"{option}: nothing can be written to {there} ({error.strerror}); give another folder"
        ) from error


def _objects(node: Any, key: str = "") -> Iterator[tuple[str, Any, Config]]:
    """Yield the key, the class and all arguments of every object in a configuration."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _objects(item, f"{key}.{index}")
    if not isinstance(node, Mapping):
        return
    path = node.get("class_path")
    if isinstance(path, str) and "." in path:
        try:
            found = find(path)
        except LookupError:
            found = None
        if isinstance(found, type):
            yield key, found, {**defaults(path), **(node.get("init_args") or {})}
    for name, item in node.items():
        yield from _objects(item, f"{key}.{name}" if key else str(name))


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str | Path):
        yield key, str(node)
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, item in items:
        yield from _texts(item, f"{key}.{name}" if key else str(name))


def _names(text: str) -> list[str]:
    return [braced or plain for braced, plain in _VARIABLE.findall(text)]


def _shown(sides: list[int]) -> str:
    return str(sides[0]) if len(sides) == 1 else str(sides)
