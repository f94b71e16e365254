"""Changes that a study makes to a configuration: `with` merges files over it, `set` overrides dotted keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.config.composition import Config, laid_over, override
from src.core.errors import UserError

CHANGES = ("with", "set")


def changed(config: Config, changes: Config, data: str, read_file: Callable[[Path], Config]) -> Config:
    """Return a copy of a configuration with the files of `with` merged over it, then the keys of `set`.

    Args:
        config: The configuration.
        changes: A mapping with `with`, a path or a list of paths, and `set`; either may be missing.
        data: Replaces {data} in the paths.
        read_file: Reads a configuration.
    """
    for file in files(changes.get("with")):
        config = laid_over(config, read_file(Path(file.format(data=data))))
    return override(config, changes.get("set") or {})


def check_changes(where: str, content: Config) -> None:
    """Check the values of `with` and `set`.

    Raises:
        UserError: If one of them has the wrong form.
    """
    if content.get("with") is not None and not all(isinstance(file, str) for file in files(content["with"])):
        raise UserError(f"{where}: `with` should be a path or a list of paths, found {content['with']!r}")
    if content.get("set") is not None and not isinstance(content["set"], dict):
        raise UserError(f"{where}: `set` should map dotted keys to values, found {content['set']!r}")


def files(value: Any) -> list[Any]:
    """Return the paths of `with`, also for a single one."""
    return [] if value is None else value if isinstance(value, list) else [value]
