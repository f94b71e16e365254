"""The floor plan: each folder is a layer, imports point down, and no module is in a circle."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from src import __all__ as public
from src.__main__ import COMMANDS
from tests.command_line import ROOT

# From the top down: a module may import its own folder and those below it.
ORDER = (
    "src.__main__",
    "src.commands",
    "src.sweeps",
    "src.studies",
    "src.cli",
    "src.callbacks",
    "src.monitoring",
    "src.explanation",
    "src.probes",
    "src.segmentation",
    "src.pretraining",
    "src.evaluation",
    "src.backbones",
    "src.config",
    "src.core",
)
# The containers that data modules hand over; everything else of theirs is reached by class path.
CONTAINERS = ("datamodules.views", "datamodules.batches")
# Commands that call data code themselves, since no configuration of theirs could name a class; and the backbone, for
# which a file has the pixels that it had in training.
DATA_OF = {
    "src.backbones.images": "datamodules.reading",
    "src.commands.prepare": "datamodules.preparing",
    "src.commands.inspect.drawing": "datamodules.reading",
    "src.commands.embed": "datamodules.reading",
}
# datamodules import src.core; the one yaml reader serves the yaml files among the data as well.
CORE_OF = {
    "datamodules.folder.classes": "src.config.yaml_reader",
    "datamodules.preparing.cwfid_annotation": "src.config.yaml_reader",
}
# Imports within functions: the package's public names, the mains of the commands, and what only some runs need.
LAZY = ("src.__main__", "src.commands")
MAINS = ("main", "on_server")
OPTIONAL = (
    "onnx", "onnxruntime", "pillow_heif", "pyarrow", "pycocotools", "rasterio", "wandb",
    "torch.distributed.nn.functional",  # missing if torch is built without distributed
)  # fmt: skip
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")])
OURS = ("src", "datamodules")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Modules that a file imports, and the function that does it; empty at the top."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node): function.name for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names = [
                full if (full := f"{node.module}.{alias.name}") in MODULES else str(node.module) for alias in node.names
            ]
        yield from ((name, inner.get(id(node), "")) for name in names)


EVERY = {module: list(imports(file)) for module, file in MODULES.items()}
GRAPH = {
    module: [(name, function) for name, function in found if name.partition(".")[0] in OURS]
    for module, found in EVERY.items()
}


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def layer(module: str) -> int | None:
    return next((depth for depth, name in enumerate(ORDER) if below(module, name)), None)


@pytest.mark.parametrize("module", [module for module in MODULES if below(module, "src") and module != "src"])
def test_imports_point_down(module: str) -> None:
    here = layer(module)
    assert here is not None, f"{module} has no layer: give its folder one in tests/test_imports.py"
    for name, _ in GRAPH[module]:
        there = layer(name)
        assert there is None or there >= here, f"{module} imports {name}, which lies above it"
        if below(name, "datamodules"):
            allowed = (*CONTAINERS, *filter(None, [DATA_OF.get(module)]))
            assert any(below(name, each) for each in allowed), f"{module} imports {name}: reach it by class path"


@pytest.mark.parametrize("module", [module for module in MODULES if below(module, "datamodules")])
def test_datamodules_know_the_core_alone(module: str) -> None:
    for name, _ in GRAPH[module]:
        known = below(name, "datamodules") or below(name, "src.core") or CORE_OF.get(module) == name
        assert known, f"{module} imports {name}; of src, data modules know src.core"


@pytest.mark.parametrize("module", [module for module in MODULES if module != "src"])
def test_imports_within_functions_are_where_the_design_has_them(module: str) -> None:
    allowed = MAINS if module.startswith(LAZY) else ()
    assert [name for name, function in GRAPH[module] if function and function not in allowed] == []


@pytest.mark.parametrize("module", MODULES)
def test_other_packages_are_imported_within_functions_only_if_they_are_optional(module: str) -> None:
    others = [name for name, function in EVERY[module] if function and name.partition(".")[0] not in OURS]
    assert [name for name in others if not any(below(name, each) for each in OPTIONAL)] == []


def test_no_module_is_in_a_circle() -> None:
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        assert module not in path, f"circle: {' → '.join([*path[path.index(module) :], module])}"
        if module in done or module not in MODULES:
            return
        path.append(module)
        for name, _ in GRAPH[module]:
            # a package's __init__ re-exports its modules, and is imported before each of them
            if not below(name, module) and not below(module, name):
                visit(name)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_the_top_of_src_holds_the_entry_points_alone() -> None:
    assert sorted(path.name for path in (ROOT / "src").glob("*.py")) == ["__init__.py", "__main__.py", "cli.py"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_module(command: str) -> None:
    assert importlib.util.find_spec(COMMANDS[command][0]) is not None


def test_public_names_are_found() -> None:
    import src

    assert [getattr(src, name).__name__ for name in public] == public
    assert set(public) <= set(dir(src))
    with pytest.raises(AttributeError, match="no attribute 'load_backbon'"):
        _ = src.load_backbon
