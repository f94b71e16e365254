"""A user's own `src` folder never stands in for this package, and their own modules are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.core import import_path


def found_by_a_child(folder: Path, module: str) -> str:
    """The file of a module, as a process that was started in a folder finds it."""
    code = f"import importlib.util; print(importlib.util.find_spec({module!r}).origin)"
    command = [sys.executable, "-c", code]
    environment = import_path.for_children(os.environ)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("package", ["src", "datamodules"])
def test_children_find_this_package_beside_another_of_its_name(tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    assert Path(found_by_a_child(tmp_path, package).strip()) == import_path.HOME / package / "__init__.py"


def test_an_installed_package_is_not_put_before_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_path, "HOME", Path("/venv/lib/site-packages"))
    assert import_path.for_children({"PYTHONPATH": "mine"})["PYTHONPATH"] == "mine"


def test_the_current_folder_comes_last_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["first"])
    import_path.add_current_folder()
    import_path.add_current_folder()
    assert sys.path == ["first", str(tmp_path)]
