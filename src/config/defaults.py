"""The defaults that a yaml leaves unsaid, read from the source of the classes it names.

A result depends on them as much as on the yaml, so they belong into a cell's hash: whoever changes a default in the
code must not be shown results of the old one. They are read from the source text and not from imported classes, because
a study plans and renders thousands of cells without waiting for torch.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from src.config.composition import Config
from src.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
OURS = ("src", "datamodules")  # what other packages change is for `RESULTS_VERSION` and the pinned environment


def completed(config: Config) -> Config:
    """A copy of `config` in which every `class_path` of ours has all its `init_args`; unsaid ones as source text."""
    return {key: _completed(value) for key, value in config.items()}


def _completed(value: Any) -> Any:
    if isinstance(value, list):
        return [_completed(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("class_path"), str):
        unsaid, said = defaults(value["class_path"]), value.get("init_args") or {}
        value = {**value, "init_args": {**unsaid, **{name: _laid_over(unsaid.get(name), said[name]) for name in said}}}
    return {key: _completed(item) for key, item in value.items()}


def _laid_over(default: Any, given: Any) -> Any:
    """A given value; where it is some fields of a dataclass of ours, with the defaults of the others."""
    fields = default.get("with") if isinstance(default, dict) else None
    return {**fields, **given} if fields and isinstance(given, dict) and "class_path" not in given else given


@cache
def defaults(class_path: str) -> Config:
    """Argument names of a class of ours with their defaults as source text; empty for any other class.

    A default that is itself an object of ours, such as `UniAdapter()`, comes with the defaults of its class.

    Raises:
        UserError: if the class should be ours and does not exist.
    """
    module, _, name = class_path.rpartition(".")
    if module.split(".")[0] not in OURS:
        return {}
    tree = _source(module)
    known = _imports(tree) | {
        node.name: f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef)
    }
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        if name not in known:
            raise UserError(f"class_path {class_path}: {module} has no class {name}")
        return defaults(known[name])  # a package's __init__ that only re-exports the class
    initialiser = next(
        (node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None
    )
    inherited: Config = {}
    if initialiser is None or initialiser.args.kwarg is not None:  # `**shared` are arguments of the bases
        for base in reversed(found.bases):
            inherited |= defaults(known.get(ast.unparse(base), ""))
    if initialiser is not None:
        return inherited | {argument: _described(value, known) for argument, value in _arguments(initialiser.args)}
    fields = {
        node.target.id: _described(node.value, known)
        for node in found.body
        if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name)
        if not ast.unparse(node.annotation).startswith("ClassVar")  # a constant is no argument
    }
    return inherited | fields


def _described(value: ast.expr, known: dict[str, str]) -> Any:
    text = f"default: {ast.unparse(value)}"
    named = value.func if isinstance(value, ast.Call) else value
    class_path = known.get(named.id, "") if isinstance(named, ast.Name) and named.id[:1].isupper() else ""
    nested = defaults(class_path) if class_path and not named_constant(class_path) else {}
    return {"is": text, "with": nested} if nested else text


def named_constant(class_path: str) -> bool:
    """Whether a dotted name is written as constants are: its value is not followed."""
    return class_path.rpartition(".")[2].isupper()


def _arguments(arguments: ast.arguments) -> list[tuple[str, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    late = positional[len(positional) - len(arguments.defaults) :]
    pairs = [
        *zip(late, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [(argument.arg, default) for argument, default in pairs if default is not None]


@cache
def _source(module: str) -> ast.Module:
    place = ROOT.joinpath(*module.split("."))  # not through the import system, which would import the parent packages
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    raise UserError(f"class_path {module}.…: there is no module {module}")


def _imports(tree: ast.Module) -> dict[str, str]:
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
