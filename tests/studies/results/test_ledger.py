"""Documents say what the published files say, or the ledger finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.studies.results.ledger import check

TABLE = {"rows": [{"name": "glare", "entries": {"linear": {"mean": 57.349, "n": 2, "difference": -3.25}}}]}
MEAN = "<!-- from results/s/table.json#rows/glare/entries/linear/mean -->"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a published study."""
    folder = tmp_path / "results" / "s"
    (folder / "cells" / "abc").mkdir(parents=True)
    (folder / "table.json").write_text(json.dumps(TABLE))
    (folder / "table.md").write_text("| | A |\n| --- | --- |\n| Frozen | 53.9 |\n| GLARE | 57.3 ± 0.2 (2) **+3.2** |\n")
    (folder / "cells" / "abc" / "metrics.json").write_text(json.dumps({"values": {"miou": 0.5392}}))
    return tmp_path


def told(root: Path, text: str) -> tuple[int, list[str]]:
    """Marks that agree, and what is wrong as `line: message`."""
    document = root / "README.md"
    document.write_text(text)
    agreed, findings = check([document], root)
    return agreed, [f"{finding.line}: {finding.message}" for finding in findings]


@pytest.mark.parametrize(
    "text",
    [
        f"GLARE reaches 57.3 {MEAN} mIoU.",
        f"GLARE reaches 57.35 {MEAN} mIoU.",
        "Down by −3.2 <!-- from results/s/table.json#rows/0/entries/linear/difference --> mIoU.",
        "Frozen 53.9 <!-- from results/s/cells/abc/metrics.json#values/miou --> mIoU",
        "mIoU\n\n| | A |\n| --- | --- |\n| GLARE | 57.3 ± 0.2 (2) **+3.2** | <!-- from results/s/table.md#GLARE -->",
    ],
)
def test_what_agrees_is_counted(root: Path, text: str) -> None:
    assert told(root, text) == (1, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"mIoU is 57.4 {MEAN}", "1: 57.4 should be 57.3, as in results/s/table.json"),
        ("| GLARE | 57.4 | <!-- from results/s/table.md#GLARE -->", "1: the row differs from results/s/table.md"),
        ("| UDI | 57.4 | <!-- from results/s/table.md#UDI -->", "1: results/s/table.md has no row 'UDI'"),
        ("57.3 <!-- from results/t/table.json#rows -->", "1: results/t/table.json: no such file"),
        ("57.3 <!-- from results/s/table.json#rows/udi -->", "1: results/s/table.json has no number at 'rows/udi'"),
        (f"It reaches more {MEAN}", "1: no number precedes the mark"),
        ("The mIoU\nrises to 57.3.", "2: 57.3 looks like mIoU and has no mark"),
        ("mIoU in %:\n\n| a | b |\n| --- | --- |\n| GLARE | 57.3 |", "5: 57.3 looks like mIoU and has no mark"),
    ],
)
def test_what_disagrees_or_is_unmarked_is_named_with_its_line(root: Path, text: str, message: str) -> None:
    agreed, findings = told(root, text)
    assert agreed == 0
    assert len(findings) == 1
    assert findings[0].startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "Loss falls from 20.8 to 18.2.",  # not about mIoU
        "The paper has 41.6 <!-- from paper arXiv 2509.17816 --> mIoU.",
        "<!-- unpublished: a trial -->\n| run | mIoU |\n| --- | --- |\n| a | 49.2 |",
        "```\nmIoU 49.2\n```",
        "mIoU with version 2.11.0 and 95 % intervals",
    ],
)
def test_what_is_no_result_of_ours_needs_no_file(root: Path, text: str) -> None:
    assert told(root, text) == (0, [])


def test_an_exception_covers_its_own_block_only(root: Path) -> None:
    text = "<!-- unpublished: a trial -->\nmIoU 49.2\n\nmIoU 50.2"
    assert told(root, text) == (0, ["4: 50.2 looks like mIoU and has no mark"])
