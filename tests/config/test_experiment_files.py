"""Configurations by relative path: the current folder's first, then the package's."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.experiment_files import HOME, located, located_arguments
from src.config.yaml_reader import read

NAME = Path("experiments/methods/dino.yaml")


def test_the_packages_file_serves_where_the_current_folder_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert located(NAME) == HOME / NAME
    assert read(NAME) == read(HOME / NAME)


def test_the_current_folders_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    NAME.parent.mkdir(parents=True)
    NAME.write_text("seed_everything: 7")
    assert read(NAME) == {"seed_everything": 7}


@pytest.mark.parametrize("path", ["experiments/none.yaml", "setup.cfg", "src/cli.py", "/experiments/methods/dino.yaml"])
def test_other_paths_stay_as_they_are(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located(Path(path)) == Path(path)


def test_on_a_command_line_config_files_alone_are_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", str(NAME), f"--config={NAME}", "--note", str(NAME)]
    full = str(HOME / NAME)
    assert located_arguments(words) == ["fit", "--config", full, f"--config={full}", "--note", str(NAME)]
