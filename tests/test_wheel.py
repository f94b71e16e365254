"""The wheel, installed beside the environment's packages and used from another folder, without git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.command_line import ROOT

SOURCES = ("src", "datamodules", "experiments", "glare.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the checkout."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("glare_lightning-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", str(wheel), "--no-deps", "--no-index", "--target", str(target))
    return target


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a space and an umlaut in its name, a `src` package of its own, and a few images."""
    folder = tmp_path / "meine Wälder"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (folder / "Bilder").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(folder / "Bilder" / f"{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "test_vit.pth")
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True, capture_output=True)


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
