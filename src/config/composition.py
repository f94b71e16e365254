"""Compose configurations: files extend files, mappings are merged over mappings.

    extends: [../../scales/pretrain-small.yaml, ../../methods/dino.yaml, ../../data/camvid.yaml]
    trainer: {default_root_dir: runs/pretrain-camvid-dino}

Each file is merged over the ones before it, and a file's own content over all that it extends. Paths are relative to
the file that names them. A mapping within a file may extend others as well.
"""

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from src.core.errors import MissingFile, UserError

Config = dict[str, Any]
EXTENDS = "extends"


def compose(path: Path, read_file: Callable[[Path], Config], above: tuple[Path, ...] = ()) -> Config:
    """Read a configuration file with all files that it, or a mapping in it, extends.

    Args:
        path: The file.
        read_file: Reads one file.
        above: Files that extend this one, to detect cycles.

    Raises:
        MissingFile: If a file does not exist.
        UserError: If `extends` is neither a path nor a list of paths, or if files extend each other in a cycle.
    """
    here = path.resolve()
    if here in above:
        raise UserError(f"{above[-1]}: {EXTENDS} {path}, which extends this file")

    def composed(value: Any) -> Any:
        if isinstance(value, list):
            return [composed(item) for item in value]
        if not isinstance(value, dict):
            return value
        own = {key: composed(item) for key, item in value.items() if key != EXTENDS}
        result: Config = {}
        for name in _names(path, value.get(EXTENDS, [])):
            file = Path(os.path.normpath(path.parent / name))
            if not file.is_file():
                raise MissingFile(f"{path}: {EXTENDS} {name}, but there is no file {file}")
            result = laid_over(result, compose(file, read_file, (*above, here)))
        return laid_over(result, own)

    return dict(composed(read_file(path)))


def _names(path: Path, value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: {EXTENDS} should be a path or a list of paths, found {value!r}")
    return names


def laid_over(below: Config, above: Config) -> Config:
    """Return a copy of `below` merged with the keys of `above`, mapping by mapping; other values are replaced.

    A mapping with another class replaces the one below completely: arguments of one class do not apply to another.
    """
    result = deepcopy(below)
    for key, value in above.items():
        under = result.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and not _another_class(under, value):
            result[key] = laid_over(under, value)
        else:
            result[key] = deepcopy(value)
    return result


def _another_class(below: Config, above: Config) -> bool:
    return "class_path" in below and "class_path" in above and below["class_path"] != above["class_path"]


def override(config: Config, changes: Config) -> Config:
    """Return a copy of `config` with each dotted key of `changes` set; missing mappings on the way are created.

    Raises:
        UserError: If a key has an empty part, as `model..lr` has.
    """
    result = deepcopy(config)
    for dotted, value in changes.items():
        if not all(str(dotted).split(".")):
            raise UserError(f"expected a dotted key such as trainer.max_steps, found {dotted!r}")
        place = result
        *parents, last = str(dotted).split(".")
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = deepcopy(value)
    return result


def lookup(config: Config, dotted: str, default: Any = None) -> Any:
    """Return the value at a dotted key, or `default`."""
    place: Any = config
    for part in dotted.split("."):
        if not isinstance(place, dict) or part not in place:
            return default
        place = place[part]
    return place


def differences(before: Any, after: Any, key: str = "") -> list[str]:
    """Differences between two configurations, as `key: old → new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        found = (differences(before.get(name), after.get(name), f"{key}.{name}".lstrip(".")) for name in names)
        return [text for texts in found for text in texts]
    return [] if before == after else [f"{key}: {before} → {after}"]
