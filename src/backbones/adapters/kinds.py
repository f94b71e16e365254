"""Adapter kinds as text: class path and settings, as stored in adapter files."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Sequence
from typing import Any

from src.backbones.adapters import bottleneck, low_rank, selective
from src.backbones.adapters.adapter import Adapter
from src.config.class_sources import in_standard_library, loaded, states_subclass
from src.config.renamed import current
from src.core.errors import UserError

_HOME = "src.backbones.adapters"
_OWN: dict[str, type[Adapter]] = {
    kind.__name__: kind
    for kind in (
        bottleneck.UniAdapter,
        bottleneck.AdaptFormer,
        low_rank.LoRA,
        low_rank.SLR,
        selective.BitFit,
        selective.LastBlocks,
        selective.Full,
    )
}


def class_path(kind: Adapter) -> str:
    """The dotted path of the kind's class.

    Raises:
        UserError: If the class is defined inside a function, where it cannot be imported.
    """
    found = type(kind)
    if _OWN.get(found.__name__) is found:
        return f"{_HOME}.{found.__name__}"
    if "<locals>" in found.__qualname__:
        raise UserError(f"{found.__qualname__}: expected an adapter class at the top level of a module; move it there")
    return f"{found.__module__}.{found.__qualname__}"


def settings_text(kind: Adapter) -> str:
    """The kind's settings as JSON, keys sorted, without `unsaid` defaults.

    Raises:
        UserError: If the kind is not a dataclass, or a setting is not plain JSON.
    """
    if not dataclasses.is_dataclass(kind):
        raise UserError(f"{class_path(kind)}: expected a frozen dataclass, whose fields an adapter file can hold")
    try:
        said = {key: value for key, value in dataclasses.asdict(kind).items() if key in kind.settings()}
        return json.dumps(said, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind}: expected numbers, strings, booleans, lists and tuples as settings: {error}") from None


def read_kind(path: str, settings: str, trust: Sequence[str] = ()) -> Adapter:
    """Build the kind that a class path and its settings describe.

    Args:
        path: A dotted class path, or, in older files, the bare name of one of this project's kinds.
        settings: JSON of `settings_text`.
        trust: Packages that may be imported to find the class; imported ones need not be listed.

    Raises:
        UserError: If the class is not found, its package is neither imported nor trusted, it is not an adapter kind, or
            the settings do not fit it.
    """
    path = current(path)
    kind = _OWN.get(path.removeprefix(f"{_HOME}.")) or _foreign(path, trust)
    try:
        values = json.loads(settings)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(f"expected the settings of a {kind.__name__} as a JSON object, found {settings[:80]!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return kind(**values)
    except (TypeError, OverflowError) as error:
        raise UserError(f"{kind.__name__} cannot be built from the settings {settings[:200]!r}: {error}") from error


def _foreign(path: str, trust: Sequence[str]) -> type[Adapter]:
    """A third-party kind, checked to be one before anything is called."""
    package = path.partition(".")[0]
    if not all(part.isidentifier() for part in path.split(".")) or package == path:
        raise UserError(f"adapter kind {path!r}: expected {', '.join(_OWN)}, or the dotted path of a class")
    found = _imported(path)
    if found is None and not in_standard_library(path):
        named = any(path == each or path.startswith(f"{each}.") for each in trust)
        if not named and package not in sys.modules:
            raise UserError(
                f"adapter kind {path} is not part of this project, and {package} is not imported: import {package} "
                "first, "
                f'or name it if you trust its code: load_backbone(…, trust=("{package}",)), --trust {package}, or '
                f"trust: [{package}] of the backbone in a yaml"
            )
        if states_subclass(path):  # a class with a base of torch or this project; nothing else is imported
            found = _import(path)
    if not (isinstance(found, type) and issubclass(found, Adapter)) or inspect.isabstract(found):
        shown = "no such class" if found is None else repr(found)
        raise UserError(f"adapter kind {path}: expected a subclass of {_HOME}.Adapter, found {shown}")
    return found


def _imported(path: str) -> Any:
    try:
        return loaded(path)
    except LookupError:
        return None


def _import(path: str) -> Any:
    module = path.rpartition(".")[0]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"adapter kind {path}: {module} cannot be imported: {error}") from error
    return _imported(path)
