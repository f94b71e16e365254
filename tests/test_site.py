"""The documentation site, built strictly, in a real browser: telephone and desk, light and dark."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.browser import SCHEMES, WIDTHS, faults, opened
from tests.command_line import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        warnings.warn("no mkdocs here (pip install -e '.[docs]'): the site was not built", stacklevel=1)
        pytest.skip("no mkdocs: the site was not built")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_whole_and_can_be_read(site: Path, width: int, scheme: str) -> None:
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("index.html"))]
    assert len(pages) > 20
    found = {page: faults(each, width, scheme) for page, each in opened(site, pages, width, scheme).items()}
    assert {page: told for page, told in found.items() if told} == {}


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for attribute in ('src="http', 'rel="stylesheet" href="http', 'class="mermaid"'):
            assert attribute not in text, path
