"""The page at the end of an adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from src.commands.adapt.advice import advice
from src.commands.adapt.outcome import Outcome
from src.commands.adapt.report import Page, html
from src.evaluation.significance import Interval


def outcome(word: str, **more: Any) -> Outcome:
    return Outcome(word, f"Adaptation: {word}, <b>.", "frozen", 10, {"miou": Interval(1.0, -1.0, 3.0, 0.8)}, **more)


def page(tmp_path: Path, found: Outcome, kinds: str | None = None) -> str:
    picture = tmp_path / "features-1.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    return html(
        Page(tmp_path, 10, "test_vit", "none", tmp_path / "a & b.safetensors", found, ["line"], [picture], kinds)
    )


@pytest.mark.parametrize("word", ["helped", "harmed", "mixed", "inconclusive", "broken", "no sign of harm"])
def test_the_verdict_comes_first_and_the_page_needs_no_network(tmp_path: Path, word: str) -> None:
    text = page(tmp_path, outcome(word), "Two kinds.")
    order = [
        text.index(part) for part in ('aria-label="Verdict"', "Two kinds.", "data:image", "load_backbone", "<details>")
    ]
    assert order == sorted(order)
    assert "&lt;b&gt;" in text and "<b>" not in text and "a &amp; b" in text
    assert (
        "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/1999/xlink", "")
        and "<svg" in text[order[-1] :]
    )
    assert ("worse than the frozen model" in text) == (word in ("harmed", "broken"))
    assert word != "no sign of harm" or "helped" not in text.replace("whether it helped", "")


STRENGTHS = {
    0.0: {"miou": 40.0, "whitened_knn": 40.0}, 0.5: {"miou": 43.0, "whitened_knn": 42.0},
    1.0: {"miou": 39.0, "whitened_knn": 41.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "kinds", "said"),
    [
        (outcome("helped"), None, "Use the adapter"),
        (outcome("helped", averaging="better"), None, "Average the frozen model"),
        (outcome("harmed"), None, "half as many steps"),
        (outcome("harmed", strengths=STRENGTHS), None, "adapter_scale=0.5"),
        (outcome("inconclusive"), None, "Label more images: 10"),
        (outcome("inconclusive"), "Two kinds.", "Split the folder"),
        (outcome("mixed"), None, "the other preset"),
        (outcome("no sign of harm"), None, "give --masks"),
    ],
)
def test_advice_is_one_sentence_for_each_verdict(found: Outcome, kinds: str | None, said: str) -> None:
    text = advice(found, kinds)
    assert said in text and text.count(". ") == 0 and text.endswith(".")
