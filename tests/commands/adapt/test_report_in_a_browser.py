"""The page at the end of an adaptation in a real browser, telephone and desk, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from src.commands.adapt.outcome import ROWS, SCORES, Outcome
from src.commands.adapt.report import Page, html
from src.evaluation.significance import Interval
from tests.browser import SCHEMES, WIDTHS, faults, opened

VALUES = dict.fromkeys(SCORES, 41.25)
BY_MASKS = Outcome(
    word="helped",
    sentence="The adaptation helped: +3.1 linear mIoU (95 % interval +1.2 to +5.0), +4.0 whitened 30-NN, 12 images.",
    recommended="adapted",
    images=12,
    changes={name: Interval(3.1, 1.2, 5.0, 0.01) for name in SCORES},
    rows=dict.fromkeys(ROWS, VALUES),
    strengths=dict.fromkeys((0.0, 0.25, 0.5, 0.75, 1.0), VALUES),
)
WITHOUT_MASKS = Outcome("no sign of harm", "No sign of harm: dense structure 0.41 → 0.44.", "adapted", 16, {})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_there_fits_and_can_be_read(tmp_path: Path, width: int, scheme: str) -> None:
    picture = tmp_path / "features-1.png"
    Image.new("RGB", (1040, 370), "teal").save(picture)
    adapter = tmp_path / "runs" / "a-folder-with-a-rather-long-name-and-no-spaces" / "adapter.safetensors"
    lines = [
        "knn/miou: 40.1 frozen, 43.2 adapted; a line of the monitor that is longer than a telephone is wide, by far"
    ]
    for name, outcome in (("masks.html", BY_MASKS), ("none.html", WITHOUT_MASKS)):
        page = Page(
            tmp_path / "Aufnahmen aus dem Wald", 40, "vit_small_patch14_reg4_dinov2", "hf://some/weights", adapter,
            outcome, lines, [picture], "These images look like two kinds.", [picture],
        )  # fmt: skip
        (tmp_path / name).write_text(html(page))
    for found in opened(tmp_path, ["masks.html", "none.html"], width, scheme).values():
        assert faults(found, width, scheme) == []
        assert found["images"] == 2
