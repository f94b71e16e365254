"""A release: one version everywhere, and an sdist and a wheel that a package index would take."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

import src
from src.__main__ import main
from tests.command_line import ROOT
from tests.wheels import SOURCES, copied

MORE = ("MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "environment.yml", "mkdocs.yml")


def test_there_is_one_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", src.__version__)
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == src.__version__
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"glare {src.__version__}"


@pytest.mark.slow
def test_sdist_and_wheel_are_built_and_pass_the_index_check(tmp_path: Path) -> None:
    source, dist = tmp_path / "source", tmp_path / "dist"
    source.mkdir()
    copied(source, (*SOURCES, *MORE, "docs", "examples", "tests", "benchmarks"))
    run("build", "--no-isolation", "--outdir", str(dist), str(source))
    name = f"glare_lightning-{src.__version__}"
    assert {file.name for file in dist.iterdir()} == {f"{name}-py3-none-any.whl", f"{name}.tar.gz"}
    run("twine", "check", "--strict", *map(str, dist.iterdir()))
    with tarfile.open(dist / f"{name}.tar.gz") as archive:
        held = {path.removeprefix(f"{name}/") for path in archive.getnames()}
    assert {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file() and ours(path)} <= held


def ours(path: Path) -> bool:
    """Leave out what the build itself writes."""
    return ".egg-info" not in str(path) and "build" not in path.parts


def run(module: str, *words: str) -> None:
    """Run a module of this environment."""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
