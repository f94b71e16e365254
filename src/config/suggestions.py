"""Find misspelt keys of a configuration and suggest the nearest valid ones.

jsonargparse reports an invalid configuration in many lines. Here its keys are compared with those of the parser and the
classes, for a message of one line.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from src.config.argument_types import dataclass_keys, initialisers
from src.config.class_sources import loaded, locate
from src.config.composition import laid_over
from src.config.flags import config_files, flags
from src.config.nearest import nearest
from src.config.right_command import check_command
from src.config.yaml_reader import read
from src.core.errors import MissingFile, UserError

_SUBCLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
_PACKAGES = ("src", "datamodules")
_ROOT = Path(__file__).resolve().parents[2]


def explain(arguments: Sequence[str], keys: Iterable[str], message: str) -> str:
    """Explain in one line why `arguments` could not be parsed.

    Args:
        arguments: the command line after the command's name.
        keys: every dotted key that the command's parser knows, such as ``trainer.max_steps``.
        message: jsonargparse's message; used, on one line, if no misspelt key is found.
    """
    return misspelt(arguments, keys) or _on_one_line(message)


def misspelt(arguments: Sequence[str], keys: Iterable[str]) -> str | None:
    """The first misspelt key of the files and flags in `arguments`, with the nearest valid one, or None."""
    known = {key for key in keys if not key.endswith("help")}
    config: dict[str, Any] = {}
    for path in config_files(arguments):
        try:
            content = read(Path(path))
            check_command(Path(path), content, "fit")
        except UserError as error:
            return f"--config {error}" if isinstance(error, MissingFile) else str(error)
        config = laid_over(config, content)
        for found in misspelt_keys(config, known):
            return f"{path}: {found}"
    for flag, value in flags(arguments):
        for found in _misspelt_flag(flag, value, config, known):
            return found
    return None


def place(arguments: Sequence[str], value: str) -> str:
    """Locate `value` in the files and flags of `arguments`: ``x.yaml: model.class_path: ``; empty if not found."""
    for path in config_files(arguments):
        for key in _keys_of(value, read(Path(path))):
            return f"{path}: {key}: "
    return next((f"--{flag}: " for flag, given in flags(arguments) if given is not None and value in given), "")


def _keys_of(value: str, node: Any, key: str = "") -> Iterator[str]:
    if node == value:
        yield key
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, item in items:
        yield from _keys_of(value, item, f"{key}.{name}" if key else str(name))


def misspelt_keys(config: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    """Yield a line for each key of a configuration that is unknown to the parser and to its class.

    Args:
        config: A configuration.
        known: Every dotted key that the parser knows, such as ``trainer.max_steps``.
    """
    top = {key.split(".")[0] for key in known}
    for key, value in config.items():
        children = {name.split(".")[1] for name in known if name.startswith(f"{key}.")}
        if key not in top:
            yield f"no key {key!r}{nearest(str(key), top)}"
        elif children and not isinstance(value, dict | str):
            yield f"{key}: expected a mapping of its arguments, found {'null' if value is None else f'{value!r:.60}'}"
        elif children and isinstance(value, dict):
            for child in value.keys() - children:
                yield f"no key '{key}.{child}'{nearest(str(child), children)}"
        yield from _misspelt_below(value, str(key))


def _misspelt_below(node: Any, where: str) -> Iterator[str]:
    """Check every ``class_path``/``init_args`` pair in `node`, at any depth."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _misspelt_below(item, f"{where}.{index}")
    if not isinstance(node, dict):
        return
    entries = [key for key, value in node.items() if isinstance(value, dict) and "class_path" in value]
    for key, value in node.items() if entries and not where.endswith("init_args") else ():
        if isinstance(value, dict) and "init_args" in value and "class_path" not in value:  # in a mapping of objects
            yield f"no key '{where}.{key}'{nearest(str(key), entries)}"
    if "class_path" in node:
        for key in node.keys() - set(_SUBCLASS_KEYS):
            yield f"no key '{where}.{key}'{nearest(str(key), _SUBCLASS_KEYS)}"
        if not _exists(node["class_path"]):
            yield f"{where}.class_path: no class {node['class_path']!r}{nearest(node['class_path'], _class_paths())}"
        valid, arguments = accepted_arguments(node["class_path"]), node.get("init_args") or {}
        if not isinstance(arguments, dict):
            yield f"{where}.init_args: expected a mapping of arguments, found {arguments!r:.60}"
            return
        for key in arguments:
            if arguments[key] is None and _needs_value(node["class_path"], key):
                yield f"{where}.init_args.{key}: expected a value, found null; leave the key out for its default"
        for key in arguments.keys() - valid if valid is not None else ():
            yield f"no key '{where}.init_args.{key}'{nearest(str(key), valid or ())}"
        for name, value in arguments.items():
            fields = _fields(node["class_path"], name)
            if fields and not isinstance(value, dict | str | None):
                yield f"{where}.init_args.{name}: expected a mapping of its arguments, found {value!r:.60}"
            if fields and isinstance(value, dict) and "class_path" not in value:
                for key in value.keys() - fields - set(_SUBCLASS_KEYS):
                    yield f"no key '{where}.init_args.{name}.{key}'{nearest(str(key), fields)}"
    for key, value in node.items():
        yield from _misspelt_below(value, f"{where}.{key}")


def _misspelt_flag(flag: str, value: str | None, config: dict[str, Any], known: set[str]) -> Iterator[str]:
    """Follow a flag such as ``model.init_args.objectives.local.init_args.weight`` through the classes of `config`.

    A class given by the flag is added to `config`, for later flags.
    """
    first, *rest = flag.removesuffix("+").split(".")
    top = {key.split(".")[0] for key in known} | {"help", "print_config", "c"}
    children = {name.split(".")[1] for name in known if name.startswith(f"{first}.")}
    if first not in top:
        yield f"no flag --{flag}{nearest(first, top)}"
    if rest and children and rest[0] not in children:
        yield f"no flag --{flag}{nearest(rest[0], children)}"
    names = [first, *(name for name in rest if name not in _SUBCLASS_KEYS)]
    node = config
    fields: set[str] | None = None  # fields of a dataclass, such as `optimisation`
    for depth, name in enumerate(names if "help" not in rest else ()):
        if fields and "class_path" not in node and name not in fields:
            yield f"no flag --{flag}{nearest(name, fields)}"
        fields = _fields(node["class_path"], name) if "class_path" in node else None
        if "class_path" in node:
            valid = accepted_arguments(node["class_path"])
            if valid is not None and name not in valid:
                yield f"no flag --{flag}: {node['class_path']} has no {name!r}{nearest(name, valid)}"
            node["init_args"] = node.get("init_args") or {}
            node = node["init_args"]
        elif node and name not in node and 1 < depth < len(names) - 1:  # into a missing entry
            yield f"no flag --{flag}: there is no {name!r}{nearest(name, map(str, node))}"
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    if value and re.fullmatch(r"([A-Za-z_]\w*\.)+[A-Z]\w*", value):
        if not _exists(value):
            yield f"--{flag}: no class {value!r}{nearest(value, _class_paths())}"
        node["class_path"] = value


def find(class_path: str) -> Any:
    """Return the object at a dotted path, importing only modules of this project.

    Raises:
        LookupError: if it names nothing, or something in a module that is not imported.
    """
    module, _, name = class_path.rpartition(".")
    if module.partition(".")[0] not in _PACKAGES:
        return loaded(class_path)
    try:
        return getattr(import_module(module), name)
    except (AttributeError, ModuleNotFoundError) as error:
        raise LookupError(class_path) from error


def _exists(class_path: Any) -> bool:
    if not isinstance(class_path, str) or "." not in class_path:
        return True  # jsonargparse's shorthand: the bare name of an imported class
    return _found(class_path) is not None or _is_not_imported(class_path)


def _found(class_path: str) -> Any:
    try:
        return find(class_path)
    except LookupError:
        return None


def _is_not_imported(class_path: str) -> bool:
    """Return True for a class of an importable module that is not imported, so unknown here."""
    module = class_path.rpartition(".")[0]
    return module not in sys.modules and locate(module) is not None


def accepted_arguments(class_path: Any) -> set[str] | None:
    """Names of the arguments, or None if unknown (no such class, or no signature).

    ``**kwargs`` are resolved to the arguments of the next base.
    """
    found = _found(class_path) if isinstance(class_path, str) and "." in class_path else None
    return _accepted(found) if isinstance(found, type) else None


@cache
def _accepted(found: type) -> set[str] | None:
    names: set[str] = set()
    for kind in found.__mro__[:-1]:
        if (initialiser := vars(kind).get("__init__")) is None:
            continue
        try:
            parameters = [*inspect.signature(initialiser).parameters.values()][1:]
        except ValueError:  # a class implemented in C
            return None
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
    return None


def _fields(class_path: Any, argument: str) -> set[str] | None:
    """Fields of the dataclass that an argument of a class takes as a mapping, or None."""
    found = _found(class_path) if isinstance(class_path, str) and "." in class_path else None
    return dataclass_keys(found, argument) if isinstance(found, type) else None


def _needs_value(class_path: Any, argument: str) -> bool:
    """Return whether an argument has a default other than None and a type without None."""
    found = _found(class_path) if isinstance(class_path, str) and "." in class_path else None
    for function in initialisers(found) if isinstance(found, type) else ():
        parameter = inspect.signature(function).parameters.get(argument) if inspect.isfunction(function) else None
        if parameter is not None and parameter.default not in (None, parameter.empty):
            return not any(word in str(parameter.annotation) for word in ("None", "Optional", "Any"))
    return False


def _class_paths() -> list[str]:
    """Dotted paths of all classes of this project, by exporting package if any; imports nothing."""
    found = []
    for file in [*(_ROOT / "src").rglob("*.py"), *(_ROOT / "datamodules").rglob("*.py")]:
        module = ".".join(file.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")
        package = file.with_name("__init__.py")
        exported = set(re.findall(r"\w+", package.read_text())) if package.is_file() else set()
        for name in re.findall(r"^class ([A-Za-z]\w*)", file.read_text(), re.MULTILINE):
            found.append(f"{module.rpartition('.')[0] if name in exported else module}.{name}")
    return found


def _on_one_line(message: str) -> str:
    """The innermost error of a nested jsonargparse message, with its dotted key."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    noise = (
        "Subtypes:",
        "Errors:",
        "Given value",
        "Does not validate",
        "- Expected a <class 'NoneType'>",
        "Parser key",
    )
    tail = message.rsplit("Parser key", 1)[-1].split(":", 1)[-1] if keys else message
    lines = [line.strip() for line in tail.splitlines()]
    kept = [line.removeprefix("- ") for line in lines if line and not line.startswith(noise)]
    bare = re.search(r"Expected a dot import path string: (\w+)$", tail, re.MULTILINE)
    if bare:
        kept = [f"no class {bare[1]!r}{nearest(bare[1], {path.rpartition('.')[2] for path in _class_paths()})}"]
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", "; ".join(kept))
    text = re.sub(r"\b(?:fit|validate|test|predict)\.(?=\w)", "", text)  # the command is not part of a key
    return f"{'.'.join(keys)}: {text}" if keys else text
