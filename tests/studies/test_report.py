"""The report: whole, without network, verdict first, nothing that only eyes can read."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.studies.cells import Store, write_json
from src.studies.report import html
from src.studies.results import Results
from src.studies.study import Study
from tests.studies.cells_on_disk import fill, study_file

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements in order, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    study, store = Study.read(study_file(tmp_path, title="Before & after")), Store(tmp_path / "cells")
    fill(study, store)
    return Results(study, store)


def test_every_element_is_closed_and_nothing_is_fetched(results: Results) -> None:
    text = html(results)
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe")
        assert not str(attributes.get("src") or "data:").startswith(("http", "/"))
    assert "url(" not in text
    assert "@import" not in text
    assert "<title>Before &amp; after</title>" in text


def test_the_verdict_comes_before_everything_else(results: Results) -> None:
    text = html(results)
    assert (
        text.index("It helped.") < text.index("GLARE (Linear) helped: +") < text.index("<table>") < text.index("<svg")
    )


def test_every_picture_and_chart_has_a_text(results: Results) -> None:
    elements = Page(html(results)).elements
    pictures = [attributes for tag, attributes in elements if tag == "img"]
    assert len(pictures) == 2 * 4 + 2 * 3  # two images: overlays, features
    assert all(attributes["alt"] for attributes in pictures)
    charts = [attributes for tag, attributes in elements if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in charts)
    spoken = " ".join(str(attributes.get("aria-label")) for attributes in charts)
    assert "Total loss over 4 steps: GLARE from 3.00 to 2.20" in spoken
    assert "Linear +" in spoken


def test_overlays_show_the_classes_in_their_colours(results: Results) -> None:
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', html(results))
    truth = next(data for data, spoken in sources if "true classes" in spoken)
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(truth)))).astype(int)
    sky, tree = pixels[5:12, 5:28].mean((0, 1)), pixels[5:12, 33:].mean((0, 1))
    assert sky.argmax() == 2  # (90, 140, 220)
    assert tree.argmax() == 1  # (60, 150, 60)
    assert pixels[:2, :2].mean() < sky.mean() - 20  # ignored: dark


def test_a_study_that_has_not_run_yet_has_a_page_too(tmp_path: Path) -> None:
    text = html(Results(Study.read(study_file(tmp_path)), Store(tmp_path / "cells")))
    assert "No verdict yet." in text
    assert Page(text).open == []


def test_failures_are_shown_as_text(results: Results) -> None:
    cell = next(iter(results.study.cells.values()))
    (results.store.folder(cell) / "metrics.json").unlink()
    write_json(
        results.store.folder(cell) / "failure.json", {"title": cell.title, "reason": "r", "log": ["<script>alert(1)"]}
    )
    text = html(Results(results.study, results.store))
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text


@pytest.mark.parametrize(("gain", "word"), [(-8, "It did harm."), (0, "No evidence that it changed anything.")])
def test_the_page_says_what_the_verdict_says(tmp_path: Path, gain: int, word: str) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "cells")
    fill(study, store, gain=gain)
    assert word in html(Results(study, store))


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
def test_a_real_browser_shows_it_without_scrolling_sideways(results: Results, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        warnings.warn("no chromium here: the report was not opened in a browser", stacklevel=1)
        pytest.skip("no chromium")
    (tmp_path / "report.html").write_text(html(results))
    probe = (
        f'<iframe src="report.html" style="width:{width}px;height:900px"></iframe><script>onload = () => {{'
        "const page = document.querySelector('iframe').contentDocument;"
        "const broken = [...page.images].filter(image => !image.naturalWidth).length;"
        "document.title = `${page.documentElement.scrollWidth} ${page.images.length} ${broken}`}</script>"
    )
    (tmp_path / "probe.html").write_text(probe)
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    switches += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [browser, *switches, (tmp_path / "probe.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", page)
    assert found is not None, page[-2000:]
    scroll, pictures, broken = map(int, found.groups())
    assert scroll <= width
    assert (pictures, broken) == (14, 0)
