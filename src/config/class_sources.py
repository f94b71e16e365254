"""Look up a class by its dotted path without running code of modules that are not imported yet."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def loaded(path: str) -> Any:
    """Return the object at a dotted path in modules that are already imported.

    Raises:
        LookupError: if its module is not imported yet, or has no such name.
    """
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:length]))
        if found is None:
            continue
        for number, name in enumerate(parts[length:], length + 1):
            below = sys.modules.get(".".join(parts[:number])) if isinstance(found, ModuleType) else None
            try:
                found = getattr(found, name) if below is None else below
            except AttributeError:
                raise LookupError(path) from None
        return found
    raise LookupError(path)


def locate(module: str) -> ModuleSpec | None:
    """Find a module as the import system does, but without importing its parent packages."""
    spec, search, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next(filter(None, (_ask(finder, name, search) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        package = sys.modules.get(name)
        search = getattr(package, "__path__", None) or spec.submodule_search_locations or []
    return spec


def _ask(finder: Any, name: str, search: Any) -> ModuleSpec | None:
    find_spec = getattr(finder, "find_spec", None)
    try:
        found = None if find_spec is None else find_spec(name, search)
    except KeyError:  # a folder without __init__.py: Python would look into its parent package, which is not imported
        found = ModuleSpec(name, None, is_package=True)
        folders = [str(folder) for entry in search or () if (folder := Path(entry, name.rpartition(".")[2])).is_dir()]
        found.submodule_search_locations = folders
    return found if isinstance(found, ModuleSpec) else None


def in_standard_library(path: str) -> bool:
    """Return True for a dotted path into Python's standard library."""
    return path.partition(".")[0] in sys.stdlib_module_names  # builtins included


def states_subclass(path: str, seen: frozenset[str] = frozenset()) -> bool:
    """Return True if the source says that `path` is a class with an imported base outside the standard library.

    Names are followed through imports, re-exports and base classes. Anything dynamic, such as a class returned by a
    function, counts as False.
    """
    if path in seen or "." not in path:
        return False
    try:
        return _is_base(loaded(path))
    except LookupError:
        pass
    if in_standard_library(path):
        return False
    module, _, name = path.rpartition(".")
    tree = _source(module)
    if tree is None:
        return False
    seen = seen | {path}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return any(states_subclass(target, seen) for base in node.bases for target in _targets(base, module, tree))
    return any(states_subclass(target, seen) for target in _imported(name, module, tree))


def _is_base(found: Any) -> bool:
    return isinstance(found, type) and any(not in_standard_library(kind.__module__) for kind in found.__mro__)


def _targets(base: ast.expr, module: str, tree: ast.Module) -> Iterator[str]:
    """Possible dotted paths of a base in a class statement."""
    if isinstance(base, ast.Subscript):  # a generic class
        base = base.value
    first, _, rest = ast.unparse(base).partition(".")
    if not rest:
        yield f"{module}.{first}"
    for target in _imported(first, module, tree):
        yield f"{target}.{rest}" if rest else target


def _imported(name: str, module: str, tree: ast.Module) -> Iterator[str]:
    """Possible dotted paths from which a name was imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    yield alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name) == name:
                    yield f"{origin}.{name if alias.name == '*' else alias.name}"


def _origin(node: ast.ImportFrom, module: str) -> str:
    """The module of a `from … import`; leading dots are relative to the package of `module`."""
    if not node.level:
        return node.module or ""
    spec = locate(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _source(module: str) -> ast.Module | None:
    spec = locate(module)
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return None
    file = Path(str(spec.origin))
    return _parsed(file, file.stat().st_mtime_ns) if file.is_file() else None


@cache
def _parsed(file: Path, changed: int) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return None
