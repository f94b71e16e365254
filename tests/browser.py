"""A real browser for pages: Debian's `chromium`, headless, without network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

WIDTHS = (400, 1400)  # a telephone, a desk; pixels
SCHEMES = {"dark": 0, "light": 1}  # blink's numbers
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
)
# Looks at a page in a frame of exactly the width asked for. Text is cut where its element hides what does not fit; what
# scrolls by itself is not cut.
PROBE = """
const look = (page, view) => {
  page.querySelectorAll("details").forEach(each => each.open = true);
  const style = each => view.getComputedStyle(each);
  const seen = each => each.getClientRects().length && style(each).visibility === "visible";
  const cut = each => seen(each) && each.textContent.trim() && each.clientWidth > 1
    && ["hidden", "clip"].includes(style(each).overflowX) && each.scrollWidth > each.clientWidth + 1;
  const scrolls = each => each && (["auto", "scroll"].includes(style(each).overflowX) || scrolls(each.parentElement));
  const out = each => seen(each) && !scrolls(each) && each.getBoundingClientRect().right > view.innerWidth + 1;
  const named = each => `${each.tagName.toLowerCase()}: ${(each.textContent || "").trim().slice(0, 60)}`;
  const size = each => parseFloat(style(each).fontSize) * (each.ownerSVGElement
    ? each.ownerSVGElement.getBoundingClientRect().width / each.ownerSVGElement.viewBox.baseVal.width : 1);
  const shown = [...(page.querySelector("article") || page.querySelector("main")).querySelectorAll("*")];
  const found = {
    scroll: page.documentElement.scrollWidth,
    text: page.body.innerText.length,
    images: page.images.length,
    broken: [...page.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 100)),
    silent: [...page.querySelectorAll("img, figure svg")].filter(
      each => !each.getAttribute("alt") && !each.getAttribute("aria-label")).map(named),
    cut: shown.filter(cut).map(named),
    outside: shown.filter(out).map(named),
    smallest: Math.min(...[...page.querySelectorAll("p, td, th, figcaption, dd, svg text")].filter(seen).map(size)),
    ink: style(page.body).color, paper: style(page.body).backgroundColor,
  };
  MORE
  return found;
};
onload = async () => {
  const all = {};
  for (const path of PAGES) {
    const frame = document.createElement("iframe");
    frame.style = "width: WIDTHpx; height: 900px; border: 0";
    frame.src = path;
    await new Promise(loaded => { frame.onload = loaded; document.body.append(frame); });
    await new Promise(settled => setTimeout(settled, 300));
    all[path] = look(frame.contentDocument, frame.contentWindow);
    frame.remove();
  }
  document.title = JSON.stringify(all);
};
"""


def chromium() -> str:
    """Path of the browser; without one the test is left out, with a warning."""
    found = shutil.which("chromium")
    if found is None:
        warnings.warn("no chromium here (apt-get install chromium): no page was opened", stacklevel=1)
        pytest.skip("no chromium: the page was not opened in a browser")
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a server of the files in a folder, on this machine alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def opened(folder: Path, pages: Sequence[str], width: int, scheme: str, more: str = "") -> dict[str, dict[str, Any]]:
    """Open pages of a folder, one after the other.

    Args:
        folder: Served; gets a page of ours for the time of the call.
        pages: Paths below it.
        width: Pixels.
        scheme: `dark` or `light`.
        more: JavaScript that adds to `found`, with `page`, `view` and `style` in its scope.

    Returns:
        For each page the findings of the probe; `console` holds the messages of all pages.
    """
    browser = chromium()
    script = PROBE.replace("MORE", more).replace("PAGES", json.dumps(list(pages))).replace("WIDTH", str(width))
    probe = folder / "probe.html"
    probe.write_text(f'<!doctype html><link rel="icon" href="data:,"><body><script>{script}</script></body>')
    with served(folder) as address, TemporaryDirectory() as profile:
        switches = [*SWITCHES, f"--virtual-time-budget={3000 + 2000 * len(pages)}", f"--user-data-dir={profile}"]
        switches += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom"]
        command = [browser, *switches, f"{address}/probe.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    probe.unlink()
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {page: {**each, "console": console} for page, each in json.loads(unescape(found[1])).items()}


def faults(found: dict[str, Any], width: int, scheme: str) -> list[str]:
    """What is wrong with a page, whatever it shows."""
    ink, paper = luminance(found["ink"]), luminance(found["paper"])
    contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
    checks: Sequence[tuple[bool, str]] = (
        (found["console"] == [], f"console: {found['console']}"),
        (found["scroll"] <= width, f"{found['scroll']} px wide"),
        (found["broken"] == [], f"images that are not there: {found['broken']}"),
        (found["silent"] == [], f"images without a text: {found['silent']}"),
        (found["cut"] == [], f"cut: {found['cut']}"),
        (found["outside"] == [], f"beyond the right edge: {found['outside']}"),
        (found["text"] > 100, "hardly any text"),
        (found["smallest"] >= 10, f"text of {found['smallest']:.1f} px"),
        ((ink > paper) == (scheme == "dark"), f"ink {found['ink']} on {found['paper']} in the {scheme} scheme"),
        (contrast > 7, f"contrast of {contrast:.1f}"),  # WCAG AAA
    )
    return [fault for holds, fault in checks if not holds]


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)` or `rgba(r, g, b, a)`."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
