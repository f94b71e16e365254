"""Classes are found where the import system would find them, without importing anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from src.config.class_sources import locate


@pytest.mark.parametrize("packages", [(), ("lab",), ("lab", "lab/inner"), ("lab/inner",)])
def test_modules_are_found_in_packages_and_in_plain_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...]
) -> None:
    module = tmp_path / "lab" / "inner" / "callbacks.py"
    module.parent.mkdir(parents=True)
    module.write_text("raise SystemExit('imported')")
    for package in packages:
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = locate("lab.inner.callbacks")
    assert found is not None and found.origin == str(module)
    assert locate("lab.inner.other") is None and locate("lab.other.callbacks") is None
    assert not {name for name in sys.modules if name.partition(".")[0] == "lab"}
