"""The report: whole, without network, verdict first, nothing that only eyes can read."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.html import html
from src.studies.report.training import titled
from src.studies.results.results import Results
from tests.studies.cells_on_disk import fill, study_file

VOID = {"meta", "img", "br", "link", "input"}


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
    assert len(pictures) == 2 * 4 + 2 * 3 + 1  # two images: overlays, features; one explanation
    assert all(attributes["alt"] for attributes in pictures)
    charts = [attributes for tag, attributes in elements if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in charts)
    spoken = " ".join(str(attributes.get("aria-label")) for attributes in charts)
    assert "Total loss over 4 steps: GLARE from 3.00 to 2.20" in spoken
    assert "Linear +" in spoken
    assert "Patch rank over 4 steps: frozen 41.50; GLARE from 40.00 to 44.00" in spoken
    sliders = [attributes for tag, attributes in elements if tag == "input"]
    assert len(sliders) == 2
    assert all("how much of Frozen is shown" in str(attributes["aria-label"]) for attributes in sliders)


def test_classes_and_costs_and_what_is_left_are_told(results: Results) -> None:
    text = html(results)
    assert "3 of 3 classes changed significantly" in text
    assert "<h2>Cost</h2>" in text
    assert "GLARE gives the features of the frozen backbone bit for bit" in text


def test_metrics_are_called_as_people_write_them() -> None:
    names = ["train/loss", "train/loss/local", "monitor/knn", "monitor/knn/miou", "monitor/rank/cls"]
    assert [titled(name) for name in names] == ["Total loss", "Local loss", "kNN", "kNN, mIoU", "Rank, CLS"]


def test_a_study_with_an_axis_has_its_curve(tmp_path: Path) -> None:
    rows = {"frozen": {"label": "Frozen", "pretrain": None, "at": 0}, "glare": {"label": "GLARE", "at": 30}}
    study, store = Study.read(study_file(tmp_path, rows=rows, axis="unlabelled images")), Store(tmp_path / "cells")
    fill(study, store)
    text = html(Results(study, store))
    assert "<h2>Result over unlabelled images</h2>" in text
    assert re.search(r'aria-label="Result over unlabelled images: Linear [\d.]+ at 0, [\d.]+ at 30;', text)


def test_forgetting_is_called_that_in_table_and_verdict(tmp_path: Path) -> None:
    columns = {
        "elsewhere": {
            "label": "Linear",
            "data": "folder",
            "adapted_on": "scenes",
            "config": str(tmp_path / "segment.yaml"),
        }
    }
    study, store = Study.read(study_file(tmp_path, columns=columns)), Store(tmp_path / "cells")
    assert {cell.title for cell in study.cells.values() if cell.stage == "pretrain"} == {
        f"pre-train GLARE on scenes, seed {seed}" for seed in (0, 1)
    }
    fill(study, store, gain=-8)
    text = html(Results(study, store))
    assert '<th scope="col">Linear, forgetting on folder</th>' in text
    assert "GLARE (Linear, forgetting on folder) harmed: −" in text


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


def test_a_smoke_test_says_that_it_has_no_verdict(tmp_path: Path) -> None:
    study, store = Study.read(study_file(tmp_path, judged=False)), Store(tmp_path / "cells")
    fill(study, store)
    text = html(Results(study, store))
    assert "No verdict." in text and "No verdict yet." not in text


def test_failures_are_shown_as_text(results: Results) -> None:
    cell = next(iter(results.study.cells.values()))
    (results.store.folder(cell) / "metrics.json").unlink()
    write_json(
        results.store.folder(cell) / "failure.json", {"title": cell.title, "reason": "r", "log": ["<script>alert(1)"]}
    )
    text = html(Results(results.study, results.store))
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text


@pytest.mark.parametrize(("gain", "word"), [(-8, "It made results worse."), (0, "Inconclusive.")])
def test_the_page_says_what_the_verdict_says(tmp_path: Path, gain: int, word: str) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "cells")
    fill(study, store, gain=gain)
    assert word in html(Results(study, store))


def test_pictures_name_their_probe(results: Results) -> None:
    assert "as predicted by: Linear, seed 0." in html(results)


@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=str)
def test_a_single_seed_is_told_how_to_get_more(tmp_path: Path, seeds: list[int]) -> None:
    study, store = Study.read(study_file(tmp_path, seeds=seeds)), Store(tmp_path / "cells")
    fill(study, store)
    advice = f"write <code>seeds: [0, 1, 2]</code> into a copy of {study.path.name}"
    assert (advice in html(Results(study, store))) == (len(seeds) == 1)
