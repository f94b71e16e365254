"""The report of a study in a real browser, telephone and desk, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.html import html
from src.studies.results.results import Results
from tests.browser import SCHEMES, WIDTHS, faults, opened
from tests.studies.cells_on_disk import fill, study_file

SLIDER = """
const slider = page.querySelector(".compare input"), over = page.querySelector(".compare .over");
found.before = style(over).clipPath;
slider.value = 10;
slider.dispatchEvent(new view.Event("input", {bubbles: true}));
found.after = style(over).clipPath;
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_there_fits_and_can_be_read(tmp_path: Path, width: int, scheme: str) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "cells")
    fill(study, store)
    (tmp_path / "report.html").write_text(html(Results(study, store)))
    found = opened(tmp_path, ["report.html"], width, scheme, SLIDER)["report.html"]
    assert faults(found, width, scheme) == []
    assert found["images"] == 15
    assert found["before"] == "inset(0px 0px 0px 50%)"
    assert found["after"] == "inset(0px 0px 0px 10%)"  # the slider moved it
