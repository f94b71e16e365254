"""`python -m src ledger` as a gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.__main__ import main


def test_an_unmarked_number_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No numbers.\n")
    assert main(["ledger", str(tmp_path)]) == 0
    (tmp_path / "docs" / "a.md").write_text("mIoU 57.3\n")
    assert main(["ledger", str(tmp_path)]) == 1
    assert "docs/a.md:1: 57.3 looks like mIoU" in capsys.readouterr().out


def test_a_folder_without_readme_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(tmp_path)]) == 1
    assert "README.md: no such file" in capsys.readouterr().err
