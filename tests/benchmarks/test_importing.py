"""Every benchmark finds the names that it imports: most of them are run by hand, and rarely."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OTHERS = {"contestant_lightly"}  # of another environment


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py") if file.stem not in OTHERS))
def test_a_benchmark_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    file = BENCHMARKS / f"{name}.py"
    found = runpy.run_path(str(file), run_name=name)
    body = ast.parse(file.read_text(encoding="utf-8")).body
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert defined and all(callable(found[each]) for each in defined)
