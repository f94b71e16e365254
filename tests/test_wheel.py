"""The wheel, installed beside the environment's packages and used from another folder, without git."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.command_line import ROOT
from tests.wheels import built_wheel, pip, strange_folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", str(wheel), "--no-deps", "--no-index", "--target", str(target))
    return target


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return strange_folder(tmp_path)


def glare(installed: Path, folder: Path, *words: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the console script in a folder, with no git on the path."""
    (folder / "bin").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": str(folder / "bin"),
        "PYTHONPATH": os.pathsep.join(map(str, [*path, installed])),
        "PYTHONSAFEPATH": "",
    }
    command = [sys.executable, str(installed / "bin" / "glare"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_it_holds_every_module_and_every_experiment(wheel: Path) -> None:
    held = set(ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("src", "datamodules", "experiments")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= held
    others = {name for name in held - expected if ".dist-info/" not in name}
    assert others == {"glare.py"}
    assert {"src/py.typed", "datamodules/py.typed"} <= held


@pytest.mark.slow
def test_adapt_leaves_an_adapter(installed: Path, elsewhere: Path) -> None:
    options = ["--backbone", "test_vit", "--weights", "test_vit.pth", "--max_steps", "2", "--out", "Läufe/eins"]
    done = glare(installed, elsewhere, "adapt", "Bilder", *options)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "Läufe" / "eins" / "adapter.safetensors").is_file()


def test_a_study_of_the_package_is_planned(installed: Path, elsewhere: Path) -> None:
    done = glare(installed, elsewhere, "study", "experiments/studies/quickstart.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "stages would run" in done.stdout
    yaml = (installed / "experiments" / "studies" / "quickstart.yaml").read_text(encoding="utf-8")
    stated = next(line for line in yaml.splitlines() if line.startswith("# COST")).removeprefix("# COST").strip()
    assert f"the study itself states: {stated}" in done.stdout


@pytest.mark.slow
def test_doctor_reads_a_checkpoint(installed: Path, elsewhere: Path) -> None:
    done = glare(installed, elsewhere, "doctor", "test_vit.pth", "--model", "test_vit")
    assert done.returncode == 0, done.stderr
    assert "LOADS" in done.stdout


def test_another_src_before_it_is_named_in_one_line(installed: Path, elsewhere: Path) -> None:
    done = glare(installed, elsewhere, "list", path=(elsewhere,))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(elsewhere / "src") in done.stderr and str(installed / "src") in done.stderr
