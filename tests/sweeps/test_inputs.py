"""A sweep is not resumed on another configuration or on other images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from src.core.errors import UserError
from src.sweeps.definition import Sweep
from src.sweeps.inputs import inputs
from src.sweeps.search import Search
from tests.sweeps.sweep_files import sweep


def made(folder: Path, **changes: object) -> Sweep:
    """A sweep of a configuration that extends another one, on a folder of one image."""
    (folder / "images").mkdir(exist_ok=True)
    if not (folder / "images" / "a.png").exists():
        (folder / "images" / "a.png").write_bytes(b"before")
    (folder / "base.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"lr": 0.1}}, **changes}))
    (folder / "fit.yaml").write_text(
        yaml.safe_dump({"extends": ["base.yaml"], "data": {"init_args": {"root": str(folder / "images")}}})
    )
    command = ["${interpreter}", "${program}", f"--config={folder / 'fit.yaml'}", "${args}"]
    return sweep(folder, {"lr": {"value": 1}}, command=command)


def redraw(folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes(b"after!")


def add_an_image(folder: Path) -> None:
    (folder / "images" / "b.png").write_bytes(b"more")


def edit(folder: Path) -> None:
    made(folder, trainer={"max_epochs": 7})


@pytest.mark.parametrize(("change", "named"), [(redraw, "data"), (add_an_image, "data"), (edit, "configuration")])
def test_a_sweep_with_other_files_is_not_resumed(change: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    Search(made(tmp_path), tmp_path / "out", None)
    change(tmp_path)
    with pytest.raises(UserError, match=f"its {named} changed since they ran; .* give another --out"):
        Search(Sweep.read(tmp_path / "sweep.yaml"), tmp_path / "out", None)


def test_what_decides_no_result_may_change(tmp_path: Path) -> None:
    first = made(tmp_path)
    begun = Search(first, tmp_path / "out", None)
    noted = inputs(first)
    assert noted.keys() == {"configuration", "data"}
    quiet = made(tmp_path, trainer={"logger": True, "enable_progress_bar": False})
    assert inputs(quiet) == noted
    (tmp_path / "images" / "a.png").touch()
    resumed = Search(quiet, tmp_path / "out", None)
    assert resumed.study.study_name == begun.study.study_name
