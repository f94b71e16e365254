"""Complete configurations with the defaults of their classes.

A result depends on a yaml's implicit defaults as much as on its keys, so defaults are part of its hash: changing one in
the code must not show results of the old one. They are taken from the imported classes by value; a named constant
counts as its value.
"""

import dataclasses
import inspect
import re
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from src.config.argument_types import argument_types, integers_first
from src.config.composition import Config, laid_over
from src.config.injection import check_import
from src.core.errors import UserError

OURS = ("src", "datamodules")
# Keys with the arguments of one implied class, given here as paths because help does not need the classes.
GROUPS = {
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "monitor": "src.monitoring.monitor.Monitor",
    "guards": "src.monitoring.guards.Guards",
}
# Our choice: short runs need more than one row every 50 steps, and a folder outside of git.
TRAINER_DEFAULTS = {
    "devices": 1,  # unless more are requested, so that a command is the same recipe on every machine
    "default_root_dir": "runs/unnamed",
    "deterministic": "warn",
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
}

_CLASS_PATH = re.compile(r"([A-Za-z_]\w*\.)+[A-Z]\w*")
_REQUIRED = inspect.Parameter.empty


class Argument(NamedTuple):
    """An argument of a class: its default as a JSON value, and True if integers are read as floats."""

    default: Any
    is_float: bool


def completed(config: Config) -> Config:
    """Return a copy of `config` with all arguments of every class and group, and canonical class paths.

    Raises:
        UserError: If a class of this project does not exist.
    """
    config = {**config, "trainer": {**TRAINER_DEFAULTS, **(config.get("trainer") or {})}}
    groups = {key: _arguments(_imported(path), config.get(key) or {}) for key, path in GROUPS.items()}
    return {**{key: _completed(value) for key, value in config.items()}, **groups}


@cache
def defaults(class_path: str) -> Config:
    """Return the arguments of a class that have defaults, and the defaults; empty if it is not a class.

    Raises:
        UserError: If it should be a class of this project and does not exist.
    """
    found = find_class(class_path)
    arguments = {} if found is None else _signature(found)
    return {name: argument.default for name, argument in arguments.items() if argument.default is not _REQUIRED}


def find_class(path: str) -> type | None:
    """Import a class as a run would; None for another object, or for code that a run would refuse to import.

    Raises:
        UserError: If it should be a class of this project and does not exist.
    """
    module, _, name = path.rpartition(".")
    if not module:
        return None
    ours = module.partition(".")[0] in OURS
    try:
        if not ours:
            import_module("lightning.pytorch")  # its classes, and torch's, are accepted as bases
            check_import(path)
        found = _imported(path)
    except ModuleNotFoundError as error:
        if ours:
            raise UserError(f"class_path {path}: there is no module {error.name}") from None
        return None
    except (ImportError, AttributeError):
        if ours:
            raise UserError(f"class_path {path}: {module} has no class {name}") from None
        return None
    return found if isinstance(found, type) else None


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _completed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_completed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = find_class(value["class_path"]) if isinstance(value.get("class_path"), str) else None
    rest = {key: _completed(item) for key, item in value.items() if found is None or key != "init_args"}
    if found is None:
        return rest
    return {**rest, "class_path": _path(found), "init_args": _arguments(found, value.get("init_args") or {})}


def _arguments(found: type, given: Config) -> Config:
    signature = _signature(found)
    known = {name: item.default for name, item in signature.items() if item.default is not _REQUIRED}
    result: Config = _copied(known)  # the signatures are cached, and callers change what they get
    for name, value in given.items():
        result[name] = _given(value, signature.get(name, Argument(None, False)))
    return result


def _copied(value: Any) -> Any:
    """A copy of a JSON value, many times faster than `deepcopy`."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _given(value: Any, argument: Argument) -> Any:
    """A value as the argument takes it: an integer as a float, bare arguments with their class."""
    if isinstance(value, str) and _CLASS_PATH.fullmatch(value) and _names_class(value):
        value = {"class_path": value}
    known = argument.default if isinstance(argument.default, dict) and "class_path" in argument.default else None
    if known and isinstance(value, dict) and "class_path" not in value:
        own = value if "init_args" not in value else value["init_args"] or {}
        value = {**known, "init_args": laid_over(known["init_args"], own)}
    return _as_floats(_completed(value)) if argument.is_float else _completed(value)


def _names_class(text: str) -> bool:
    try:
        return find_class(text) is not None
    except UserError:  # some other text
        return False


def _as_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@cache
def _signature(found: type) -> dict[str, Argument]:
    """Arguments of a class, and of its bases if its `__init__` passes on all keywords."""
    result: dict[str, Argument] = {}
    integers_first(found)
    types = dict(argument_types(found))
    factories = {
        field.name: field.default_factory
        for field in (dataclasses.fields(found) if dataclasses.is_dataclass(found) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    for kind in found.__mro__:
        if "__init__" not in vars(kind) or kind is object:
            continue
        try:
            parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
        except ValueError:  # a class implemented in C
            break
        for item in parameters:
            if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD) and item.name not in result:
                default = factories[item.name]() if item.name in factories else item.default
                kinds = types.get(item.name, ())
                described = default if default is _REQUIRED else _described(default)
                result[item.name] = Argument(described, _float_first(kinds))
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            break
    return result


def _float_first(kinds: tuple[type, ...]) -> bool:
    """Return whether jsonargparse reads an integer as a float: it takes the first matching type of a union."""
    return float in kinds and (int not in kinds or kinds.index(float) < kinds.index(int))


def _described(value: Any) -> Any:
    """A default as a JSON value; an object as its class and arguments."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_described(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, type):
        return {"class_path": _path(value), "init_args": defaults(_path(value))}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return {"class_path": _path(type(value)), "init_args": _made_from(value)}


def _made_from(value: Any) -> Config:
    """Constructor arguments of an object: attributes of the same names, or the defaults if those give an equal one."""
    kind: type = type(value)
    signature = _signature(kind)
    if all(hasattr(value, name) for name in signature):
        return {name: _described(getattr(value, name)) for name in signature}
    if all(item.default is not _REQUIRED for item in signature.values()) and _state(kind()) == _state(value):
        return {name: item.default for name, item in signature.items()}
    return _state(value)


def _state(value: Any) -> Config:
    plain = (bool, int, float, str, list, tuple)
    found = getattr(value, "__dict__", {}).items()
    return {name: item for name, item in found if not name.startswith("_") and isinstance(item, plain)}


def _path(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"
