"""Check the classes that a configuration names, so that a downloaded yaml cannot run code.

jsonargparse imports whatever a configuration names, and accepts any function where a `Callable` is expected. Two checks
prevent that:

1. While arguments are parsed, `guarded_imports` looks at each dotted path before it is imported. An imported module
   must have a class of that name. A module that is not imported yet is imported only if it is outside the standard
   library and its source states a class of that name whose bases lead to an imported class of torch, Lightning or this
   project. Classes of your own packages therefore work as they are (`mylab.adapters.Mine`, in the working directory or
   installed), while a function, or a module of unrelated code, is refused before its top level runs.
2. After parsing, `check_injected` compares every class, at any depth, with the type of the argument it is given for,
   before anything is instantiated. An argument without a class in its type, such as `Any`, takes no class.

Importing a package that does hold such a class runs its top level: install only packages that you trust.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from jsonargparse import Namespace

from src.config.argument_types import Bases, argument_types, initialisers, injectable
from src.config.class_sources import in_standard_library, loaded, locate, states_subclass
from src.core.errors import CommandLineError

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

# Options that can run code from a checkpoint, with the values allowed in a file: others need the command line.
COMMAND_LINE_ONLY = {"weights_only": (None, True), "ckpt_path": (None,)}


class RefusedImport(ImportError, ValueError):
    """A configuration names an object that is not an injectable class.

    Two bases, because jsonargparse catches one for class paths and the other for `type[...]`.
    """


def check_import(path: str) -> None:
    """Refuse a dotted path to anything but a class, without importing its module.

    Raises:
        RefusedImport: if it names another object, or code that should not be imported.
        ModuleNotFoundError: if there is no such module.
    """
    try:
        found = loaded(path)
    except LookupError:
        module = path.rpartition(".")[0]
        if in_standard_library(path):
            raise RefusedImport(
                f"{path} is in Python's standard library; expected a class of torch, Lightning, this project or a "
                "package of yours"
            ) from None
        if locate(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}") from None
        if module not in sys.modules and not states_subclass(path):
            raise RefusedImport(
                f"{path}: expected a class with a base class of torch, Lightning or this project, found none in the "
                f"source of {module}, which is therefore not imported"
            ) from None
        return
    if not isinstance(found, type):
        raise RefusedImport(f"expected a class, found {path}, a {_kind(found)}; name a class instead")


@contextmanager
def guarded_imports() -> Iterator[list[tuple[str, str]]]:
    """Let jsonargparse import only paths that pass `check_import`; yields a list of refused paths with reasons.

    The list is needed because jsonargparse tries the members of a union in turn and hides their errors.

    Raises:
        RuntimeError: if this version of jsonargparse has no `import_object` to guard.
    """
    refused: list[tuple[str, str]] = []
    places = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("jsonargparse.") and name != "jsonargparse._util" and "import_object" in vars(module)
    ]
    if not any(place.__name__ == "jsonargparse._typehints" for place in places):
        raise RuntimeError("jsonargparse has no _typehints.import_object: expected a version from 4.41 on")

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def import_object(name: Any, *args: Any, **options: Any) -> Any:
            if isinstance(name, str) and _DOTTED.fullmatch(name):
                try:
                    check_import(name)
                except RefusedImport as error:
                    refused.append((name, str(error)))
                    raise
            return original(name, *args, **options)

        return import_object

    originals = [place.import_object for place in places]
    try:
        for place, original in zip(places, originals, strict=True):
            place.import_object = guard(original)  # type: ignore[attr-defined]
        yield refused
    finally:
        for place, original in zip(places, originals, strict=True):
            place.import_object = original  # type: ignore[attr-defined]


def check_injected(config: Any, expected: Mapping[str, type], groups: Mapping[str, type]) -> None:
    """Check every class in a parsed configuration against the type of its argument.

    Args:
        config: the parsed configuration of one command.
        expected: base class of each top-level key that takes a class, such as ``model``.
        groups: class of each top-level key that holds the arguments of one class, such as ``trainer``.

    Raises:
        CommandLineError: with the first key that does not fit.
    """
    for key, value in _items(config):
        if key in groups:
            _check_arguments(value, groups[key], key)
        else:
            _check(value, (expected[key],) if key in expected else (), key)


def check_command_line_only(config: Any, arguments: Sequence[str]) -> None:
    """Refuse a configuration file with an option that may run code from a checkpoint.

    Raises:
        CommandLineError: with the option.
    """
    for name, harmless in COMMAND_LINE_ONLY.items():
        value = config.get(name)
        given = any(re.fullmatch(rf"--{name}(=.*)?", argument, re.DOTALL) for argument in arguments)
        if not given and not any(value is one for one in harmless):
            raise CommandLineError(
                f"a configuration file sets {name}: {value}; remove it and give --{name} on the command line instead, "
                "for a checkpoint that you trust"
            )


def _check(value: Any, bases: Bases, key: str) -> None:
    if isinstance(value, Namespace | Mapping):
        fields = dict(_items(value))
        if "class_path" in fields:
            _check_class(fields, bases, key)
            return
        hints = {
            name: found for base in bases if dataclasses.is_dataclass(base) for name, found in argument_types(base)
        }
        for name, item in fields.items():
            _check(item, hints.get(name, bases), f"{key}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            _check(item, bases, f"{key}.{index}")
    elif isinstance(value, type):
        _check_subclass(value, bases, key)
    elif isinstance(value, str) and _DOTTED.fullmatch(value) and (kinds := injectable(bases)):
        raise CommandLineError(f"{key}: expected a {_names(kinds)}, found the text {value}; write class_path: {value}")
    elif inspect.isroutine(value) or isinstance(value, ModuleType):
        raise CommandLineError(f"{key}: expected a {_names(bases)}, found a {_kind(value)}; name a class instead")


def _check_class(fields: Mapping[str, Any], bases: Bases, key: str) -> None:
    path = fields["class_path"]
    try:
        found = loaded(path) if isinstance(path, str) else path
    except LookupError:
        raise CommandLineError(f"{key}: expected a {_names(bases)}, found {path}, which is not a known class") from None
    _check_subclass(found, bases, key)
    _check_arguments(fields.get("init_args") or {}, found, f"{key}.init_args")
    for name, item in _items(fields.get("dict_kwargs") or {}):
        _check(item, (), f"{key}.dict_kwargs.{name}")


def _check_subclass(found: Any, bases: Bases, key: str) -> None:
    if isinstance(found, type) and any(_derives(found, base) for base in bases):
        return
    name = f"{found.__module__}.{found.__qualname__}" if isinstance(found, type) else repr(found)
    raise CommandLineError(
        f"{key}: expected a subclass of {_names(bases)}, found {name}"
        if bases
        else f"{key}: takes no class, found {name}; an argument takes classes if its type names their base"
    )


def _derives(found: type, base: type) -> bool:
    try:
        return issubclass(found, base)
    except TypeError:  # a protocol that cannot be checked at run time
        return False


def _check_arguments(arguments: Any, owner: type, key: str) -> None:
    hints, defaults = dict(argument_types(owner)), dict(_defaults(owner))
    for name, item in _items(arguments):
        if item is not defaults.get(name, inspect.Parameter.empty):  # set by this code, not by the user
            _check(item, hints.get(name, ()), f"{key}.{name}")


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return list(vars(value).items() if isinstance(value, Namespace) else value.items())


def _defaults(owner: type) -> Iterator[tuple[str, Any]]:
    for function in initialisers(owner):
        if inspect.isfunction(function):
            for name, parameter in inspect.signature(function).parameters.items():
                yield name, parameter.default


def _kind(found: Any) -> str:
    if inspect.isroutine(found):
        return "function"
    return "module" if isinstance(found, ModuleType) else type(found).__name__


def _names(bases: Bases) -> str:
    return " or ".join(dict.fromkeys(base.__name__ for base in bases if base is not type(None))) or "plain value"
