"""Read parts of a configuration in separate files, always by the one YAML reader.

jsonargparse itself would read such a file without `extends` and old names, and accept duplicate keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.config.argument_types import Bases, argument_types, injectable
from src.config.composition import EXTENDS, Config
from src.config.suggestions import find
from src.config.yaml_reader import quoted, read
from src.core.errors import CommandLineError

PARTS = ("model", "data", "trainer", "checkpoint", "monitor", "guards", "predictions")
_SUFFIXES = (".yaml", ".yml", ".json")


def inlined(arguments: Sequence[str]) -> list[str]:
    """Return a command line with files such as ``--model part.yaml`` replaced by their content.

    Args:
        arguments: The command's name and its options.

    Raises:
        CommandLineError: If such a file is a complete configuration.
        UserError: If it is not valid YAML, or not a mapping.
    """
    result: list[str] = []
    flag = ""  # of which the next word is the value
    for word in arguments:
        name, equals, value = word.partition("=")
        if flag and Path(word).is_file():
            word = _content(flag, Path(word))
        elif equals and _takes_a_part(name) and Path(value).is_file():
            word = f"{name}={_content(name, Path(value))}"
        flag = word if _takes_a_part(word) else ""
        result.append(word)
    return result


def _content(flag: str, file: Path) -> str:
    content = read(file)
    if (part := flag.removeprefix("--")) in content:
        raise CommandLineError(
            f"{flag} {file}: expected the contents of {part}, found a whole configuration with the key {part}; give "
            "it as --config"
        )
    return quoted(content)


def _takes_a_part(flag: str) -> bool:
    """Return True for ``--model`` and for ``--trainer.logger``: deeper keys are not read from files."""
    names = flag.removeprefix("--").split(".")
    return flag.startswith("--") and len(names) <= 2 and names[0] in PARTS


def check_part_files(file: Path, config: Config, expected: Mapping[str, type], groups: Mapping[str, type]) -> None:
    """Refuse a configuration that names another file in place of an object, which needs `extends`.

    Args:
        file: Path of the configuration.
        config: Its content.
        expected: Base class of each top-level key that takes a class, such as ``model``.
        groups: Class of each top-level key that holds the arguments of one class, such as ``trainer``.

    Raises:
        CommandLineError: With the key and the line to write instead.
    """
    for key, value in config.items():
        if key in groups and isinstance(value, dict):
            places = _arguments(value, groups[key], key)
        else:
            places = _files(value, tuple(filter(None, [expected.get(key, groups.get(key))])), key)
        for place, name in places:
            if name.endswith(_SUFFIXES) or (file.parent / name).is_file():
                raise CommandLineError(
                    f"{file}: {place}: expected a mapping, found the file {name}; "
                    f"write {place.rpartition('.')[2]}: {{{EXTENDS}: {name}}}"
                )


def _files(value: Any, bases: Bases, key: str) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of each value given in place of an object."""
    if isinstance(value, str):
        if injectable(bases):
            yield key, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _files(item, bases, f"{key}.{index}")
    elif isinstance(value, dict):
        owner = _class(value.get("class_path"))
        if owner is not None and isinstance(value.get("init_args"), dict):
            yield from _arguments(value["init_args"], owner, f"{key}.init_args")
        elif "class_path" not in value:
            for name, item in value.items():
                yield from _files(item, bases, f"{key}.{name}")


def _arguments(values: Config, owner: type, key: str) -> Iterator[tuple[str, str]]:
    hints = dict(argument_types(owner))
    for name, value in values.items():
        yield from _files(value, hints.get(name, ()), f"{key}.{name}")


def _class(path: Any) -> type | None:
    if not isinstance(path, str) or "." not in path:
        return None
    try:
        found = find(path)
    except LookupError:
        return None
    return found if isinstance(found, type) else None
