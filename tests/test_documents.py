"""Documents name only paths, commands, modules, classes and options that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from src.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("docs/*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
FOLDERS = ["src", "datamodules", "experiments", "results", "benchmarks", "examples", "tests", "docs"]
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*{{}}<>…-]+")
DOTTED = re.compile(r"(?<![\w./-])(?:src|datamodules)(?:\.\w+)+")
COMMAND = re.compile(r"(?:python -m src|(?<![\w.-])glare) ([a-z][a-z-]*)(?![\w.])")
TARGET = re.compile(r"\bmake ([a-z]+(?:-[a-z]+)*)\b")
CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)\b")
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
OTHERS = {"DataLoader", "LightningModule", "MaxArraySize", "PreemptParameters"}  # names of libraries and of SLURM
MADE = {"results/main-mini"}  # by a command on the same page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_exist(document: Path) -> None:
    text = document.read_text()
    missing = [
        *(path for path in map(_clean, PATH.findall(text)) if path not in MADE and not _is_there(path)),
        *(name for name in DOTTED.findall(text) if not _defines(name)),
        *(f"command {name}" for name in COMMAND.findall(_code(text)) if name not in COMMANDS),
        *(f"make {name}" for name in TARGET.findall(_code(text)) if name not in _targets()),
        *(name for name in CLASS.findall(FENCE.sub("", text)) if name not in _classes() | OTHERS),
    ]
    assert missing == []


def _code(text: str) -> str:
    """Code spans and fenced code, a line each."""
    return "\n".join(found.group() for found in re.finditer(r"^( *)```.*?^\1```|`[^`\n]+`", text, re.M | re.S))


def _clean(path: str) -> str:
    return re.sub(r"[{<].*|…", "*", path.rstrip("."))


def _is_there(path: str) -> bool:
    return next(ROOT.glob(path.rstrip("/")), None) is not None


def _defines(name: str) -> bool:
    """A module or package, or a name at the top of one, or an attribute of such a class."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if file.is_file() or path.is_dir():
            return count == len(parts) or parts[count] in _names(file)
    return False


@cache
def _names(file: Path) -> set[str]:
    return set(re.findall(r"\w+", file.read_text())) if file.is_file() else set()


@cache
def _classes() -> set[str]:
    trees = (ast.parse(file.read_text()) for folder in ("src", "datamodules", "examples") for file in _files(folder))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _files(folder: str) -> Iterator[Path]:
    return (ROOT / folder).rglob("*.py")


@cache
def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    tables = re.findall(r"^TABLES := (.*)", makefile, re.MULTILINE)[0].split()
    return {*re.findall(r"^([a-z-]+):", makefile, re.MULTILINE), *(f"table-{name}" for name in tables)}


def test_results_name_no_folder_of_one_machine() -> None:
    texts = [path for path in (ROOT / "results").rglob("*") if path.suffix in {".md", ".json", ".csv", ".tex", ".svg"}]
    assert len(texts) > 20
    absolute = re.compile(r"[\s\"'`](/(?:work|home|root|tmp|Users)/[^\s\"'`]*)")
    found = {str(path.relative_to(ROOT)): absolute.findall(path.read_text(encoding="utf-8")) for path in texts}
    assert {name: paths for name, paths in found.items() if paths} == {}
