"""Who imports whom: from the command line down to the tensors, and never back."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src import __all__ as public
from src.__main__ import COMMANDS
from tests.command_line import ROOT

# From the top down. A module may import its own layer and those below.
LAYERS = (
    ("src.__main__",),
    ("src.commands",),
    ("src.sweeps",),
    ("src.studies",),
    ("src.cli",),
    ("src.pretraining", "src.segmentation", "src.probes.dense_knn", "src.probes.classification", "src.callbacks"),
    (
        "src.segmentation.evaluation_loop",
        "src.explanation",
        "src.segmentation.inference",
        "src.segmentation.sliding_window",
        "src.segmentation.feature_cache",
        "src.segmentation.iterate_once",
        "src.pretraining.optimisation",
        "src.segmentation.param_groups",
    ),
    ("src.evaluation", "src.objectives", "src.models"),
    ("src.core", "src.config.environment", "src.config.suggestions", "src.config.sweep_arguments", "src.core.errors"),
)
ANYWHERE = "src"  # the package itself: public names, imported lazily
FROM_DATAMODULES = {
    "datamodules.views",
    "src.pretraining.patch_augmentation",
    "src.core.keyed_random",
    "datamodules.reading.images",
}
# `prepare` has no configuration that could name a class: its command calls the one package that makes data sets ready.
OF_COMMANDS = {"src.commands.prepare": "datamodules.preparing"}
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")])


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(file: Path) -> Iterator[str]:
    """Modules that a file imports, at the top or within a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> int | None:
    for depth, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return depth
    return None


@pytest.mark.parametrize("file", [file for file in FILES if "src" in file.relative_to(ROOT).parts], ids=module_of)
def test_imports_point_down(file: Path) -> None:
    module = module_of(file)
    if module == ANYWHERE:
        return
    here = layer(module)
    assert here is not None, f"{module} has no layer: give it one in tests/test_imports.py"
    for name in imported(file):
        there = layer(name)
        assert there is None or there >= here, f"{module} imports {name}, which lies above it"
        known = FROM_DATAMODULES | ({OF_COMMANDS[module]} if module in OF_COMMANDS else set())
        assert not name.startswith("datamodules") or any(name.startswith(allowed) for allowed in known), (
            f"{module} imports {name}; datamodules are reached by class path"
        )
        if here == len(LAYERS) - 2 and module.startswith("src.objectives"):
            assert not name.startswith(("lightning", "pytorch_lightning")), f"{module} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if module_of(file).startswith("src.core")], ids=module_of)
def test_core_needs_torch_and_the_standard_library_alone(file: Path) -> None:
    allowed = {*sys.stdlib_module_names, "torch"}
    others = {name for name in imported(file) if name.split(".")[0] not in allowed}
    assert not [name for name in others if name != "src.core" and not name.startswith("src.core.")]


@pytest.mark.parametrize("file", [file for file in FILES if "datamodules" in file.parts], ids=module_of)
def test_datamodules_import_nothing_from_src(file: Path) -> None:
    assert not [name for name in imported(file) if name == "src" or name.startswith("src.")]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_module(command: str) -> None:
    assert importlib.util.find_spec(COMMANDS[command][0]) is not None


def test_public_names_are_found() -> None:
    import src

    assert [getattr(src, name).__name__ for name in public] == public
    assert set(public) <= set(dir(src))
    with pytest.raises(AttributeError, match="no attribute 'load_backbon'"):
        _ = src.load_backbon
