"""A release: one version everywhere, and an sdist and a wheel that a package index would take."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """The script behind `make release`."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_package_page_has_absolute_links(release: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = re.findall(r"\]\((?!https?://)([^)]+)\)", readme)
    assert "docs/quickstart-features.png" in relative and "docs/install.md" in relative
    page = release.page(readme, "https://host.example/lab/glare", "0.1.0")
    assert re.findall(r"\]\((?!https?://)([^)]+)\)", page) == []
    assert "](https://host.example/lab/glare/raw/v0.1.0/docs/quickstart-features.png)" in page
    assert "[docs/install.md](https://host.example/lab/glare/blob/v0.1.0/docs/install.md)" in page
    assert "Source = https://host.example/lab/glare" in release.metadata(
        (ROOT / "setup.cfg").read_text(encoding="utf-8"), "https://host.example/lab/glare"
    )


def test_without_an_address_the_package_page_has_no_broken_link(release: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = release.page(readme, None, "0.1.0")
    assert re.findall(r"\]\((?!https?://)([^)]+)\)", page) == []
    assert "![" not in page and "*From `make quickstart`" not in page  # the picture is gone with its caption
    assert "docs/install.md" in page and "[arXiv 2509.17816](https://arxiv.org/abs/2509.17816)" in page
    assert page.count("\n## ") == readme.count("\n## ")


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@host.example:lab/glare.git", "https://host.example/lab/glare"),
        ("https://host.example/lab/glare", "https://host.example/lab/glare"),
        ("ssh://git@host.example/lab/glare.git", "https://host.example/lab/glare"),
        ("https://token@host.example/lab/glare.git", None),  # no secret gets into a package
        ("../glare", None),
    ],
)
def test_the_address_is_that_of_origin(
    remote: str, address: str | None, release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    assert release.origin() == address


@pytest.mark.parametrize(
    ("changelog", "message"),
    [
        (
            "# Changelog\n\n## Unreleased\n\n### Fixed\n- One.\n\n## 0.1.0 (2026-11-26)\n\nFirst.\n",
            "under '## Unreleased'",
        ),
        (
            "# Changelog\n\n## 0.2.0 (2026-12-01)\n\nOther.\n",
            r"expected a section '## 0\.1\.0 \(DATE\)', .* found none",
        ),
        ("# Changelog\n\n## 0.1.0\n\n## 0.0.1\n\nFirst.\n", r"expected a section '## 0\.1\.0"),
        ("# Changelog\n\n## Unreleased\n\n## 0.1.0 (2026-11-26)\n\nFirst.\n", None),
        ("# Changelog\n\n## 0.1.0 (2026-11-26)\n\n### Fixed\n- One.", None),
    ],
)
def test_a_release_needs_a_changelog_that_is_cut(changelog: str, message: str | None, release: ModuleType) -> None:
    found = release.uncut(changelog, "0.1.0")
    assert found is None if message is None else re.search(message, found)


@pytest.mark.slow
def test_sdist_and_wheel_are_built_and_pass_the_index_check(tmp_path: Path) -> None:
    source, dist = tmp_path / "source", tmp_path / "dist"
    source.mkdir()
    copied(source, (*SOURCES, *MORE, ".ci", "docs", "examples", "tests", "benchmarks"))
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
