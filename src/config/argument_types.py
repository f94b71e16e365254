"""Classes in the types of a class's arguments."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from functools import cache
from types import UnionType
from typing import Any

from src.config.class_sources import in_standard_library

Bases = tuple[type, ...]


def initialisers(owner: type) -> Iterator[Callable[..., Any]]:
    """Yield `__init__` of a class and of its bases, the most general first."""
    for kind in reversed(owner.__mro__):
        if "__init__" in vars(kind) and kind is not object:
            yield vars(kind)["__init__"]


def argument_types(owner: type) -> Iterator[tuple[str, Bases]]:
    """Yield each argument of a class with the classes in its type."""
    for function in initialisers(owner):
        function = inspect.unwrap(function)
        for name, hint in getattr(function, "__annotations__", {}).items():
            yield name, tuple(_classes(_evaluated(hint, function)))


def integers_first(owner: type) -> None:
    """Order unions in the annotations of a class so that an integer is read before a float.

    `typing` keeps unions regardless of their order: `Optional[Union[int, float]]` may come out with the float first if
    another package, imported earlier, has asked for it that way. jsonargparse then reads 1 as 1.0, which makes
    `trainer.limit_val_batches: 1` all batches instead of one, and the hash of a configuration depends on imports.
    """
    for function in initialisers(owner):
        for annotated in (function, inspect.unwrap(function)):
            annotations = getattr(annotated, "__annotations__", {})
            for name, hint in annotations.items():
                kinds = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else ()
                if int in kinds and float in kinds[: kinds.index(int)]:
                    annotations[name] = typing.Union[tuple(sorted(kinds, key=lambda kind: kind is float))]  # noqa: UP007


@cache
def dataclass_keys(owner: type, argument: str) -> set[str] | None:
    """Return the keys of a mapping for an argument, or None if its type is not a dataclass.

    Args:
        owner: A class.
        argument: The name of one of its arguments.
    """
    keys: set[str] = set()
    for function in map(inspect.unwrap, initialisers(owner)):
        hint = _evaluated(getattr(function, "__annotations__", {}).get(argument), function)
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
        if any((typing.get_origin(kind) or kind) is dict for kind in kinds):
            return None
        found = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
        keys |= {field.name for kind in found for field in dataclasses.fields(kind) if field.init}
    return keys or None


def _evaluated(hint: Any, function: Any) -> Any:
    """The type of an annotation, or None if its names are for type checkers only."""
    if not isinstance(hint, str):
        return hint
    probe: Any = type("Probe", (), {"__annotations__": {"argument": hint}})
    try:
        return typing.get_type_hints(probe, getattr(function, "__globals__", {}))["argument"]
    except (NameError, AttributeError, TypeError):
        return None


def _classes(hint: Any) -> Iterator[type]:
    """Classes that an argument of this type accepts, in unions, containers and `Callable[..., X]`."""
    origin = typing.get_origin(hint)
    if origin is Callable:
        *_, result = typing.get_args(hint) or (None,)
        yield from _classes(result)
    elif origin is not None:
        for part in typing.get_args(hint):
            yield from _classes(part)
        if isinstance(origin, type):
            yield from injectable((origin,))  # a library's generic class
    elif isinstance(hint, typing.TypeVar):
        yield from _classes(hint.__bound__)
    elif isinstance(hint, type) and hint not in (object, Any) and hint.__module__ != "collections.abc":
        yield hint


def injectable(bases: Bases) -> Bases:
    """Return the classes that a configuration can name, those outside the standard library."""
    return tuple(base for base in bases if not in_standard_library(base.__module__))
