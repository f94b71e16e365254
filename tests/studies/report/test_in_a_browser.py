"""The report in a real browser, telephone and desk, light and dark: Debian's `chromium`, headless, without network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.html import html
from src.studies.results.results import Results
from tests.studies.cells_on_disk import fill, study_file

SCHEMES = {"dark": 0, "light": 1}  # blink's numbers
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
)
# Runs in a page around the report, which is of exactly the width asked for.
PROBE = """
const page = document.querySelector("iframe").contentDocument, view = page.defaultView;
page.querySelectorAll("details").forEach(each => each.open = true);
const slider = page.querySelector(".compare input"), over = page.querySelector(".compare .over");
const clip = () => view.getComputedStyle(over).clipPath;
const before = clip();
slider.value = 10;
slider.dispatchEvent(new view.Event("input", {bubbles: true}));
const style = view.getComputedStyle(page.body);
document.title = JSON.stringify({
  scroll: page.documentElement.scrollWidth,
  images: page.images.length,
  broken: [...page.images].filter(image => !image.naturalWidth).length,
  silent: [...page.querySelectorAll("img, figure svg")].filter(
    each => !each.getAttribute("alt") && !each.getAttribute("aria-label")).length,
  smallest: Math.min(...[...page.querySelectorAll("p, td, th, figcaption, dd, svg text")].map(
    each => parseFloat(view.getComputedStyle(each).fontSize) * (each.ownerSVGElement
      ? each.ownerSVGElement.getBoundingClientRect().width / each.ownerSVGElement.viewBox.baseVal.width : 1))),
  before, after: clip(), ink: style.color, paper: style.backgroundColor,
});
"""


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium")
    if found is None:
        warnings.warn("no chromium here (apt-get install chromium): the report was not opened", stacklevel=1)
        pytest.skip("no chromium: the report was not opened in a browser")
    return found


def opened(browser: str, folder: Path, width: int, scheme: str) -> tuple[dict[str, Any], str]:
    """Findings of the probe in `report.html`, and the console's messages."""
    probe = (
        f'<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>'
        f"<script>onload = () => {{{PROBE}}}</script>"
    )
    (folder / "probe.html").write_text(probe)
    switches = [*SWITCHES, f"--user-data-dir={folder / 'profile'}"]
    switches += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom"]
    command = [browser, *switches, (folder / "probe.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(unescape(found[1])), done.stderr


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_everything_is_there_fits_and_can_be_read(browser: str, tmp_path: Path, width: int, scheme: str) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "cells")
    fill(study, store)
    (tmp_path / "report.html").write_text(html(Results(study, store)))
    found, console = opened(browser, tmp_path, width, scheme)
    assert "CONSOLE" not in console
    assert found["scroll"] <= width
    assert (found["images"], found["broken"], found["silent"]) == (15, 0, 0)
    assert found["smallest"] >= 10  # pixels
    assert found["before"] == "inset(0px 0px 0px 50%)"
    assert found["after"] == "inset(0px 0px 0px 10%)"  # the slider moved it
    ink, paper = luminance(found["ink"]), luminance(found["paper"])
    assert (ink > paper) == (scheme == "dark")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7  # WCAG AAA
