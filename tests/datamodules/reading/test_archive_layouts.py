"""Location of a copy: the folder that holds most of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.reading.archive_layouts import AT_THE_ROOT, PASCAL_CONTEXT

JPEGS, MASKS, LISTS = PASCAL_CONTEXT.folders
VOC, SHORT = PASCAL_CONTEXT.inner


@pytest.mark.parametrize(
    ("there", "base"),
    [
        ([], "."),
        ([f"{VOC}/{JPEGS}"], VOC),
        ([f"{SHORT}/{JPEGS}", f"{VOC}/{JPEGS}"], VOC),
        ([f"{VOC}/{JPEGS}", JPEGS, MASKS, LISTS], "."),
        ([JPEGS, f"{SHORT}/{JPEGS}", f"{SHORT}/{LISTS}"], SHORT),
        ([JPEGS, f"{VOC}/{JPEGS}"], "."),
    ],
)
def test_the_place_that_holds_most_is_taken_and_the_root_at_a_tie(tmp_path: Path, there: list[str], base: str) -> None:
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / VOC / MASKS).mkdir(parents=True, exist_ok=True)  # empty: counts for nothing
    (tmp_path / SHORT / MASKS).mkdir(parents=True, exist_ok=True)
    assert PASCAL_CONTEXT.base(tmp_path) == tmp_path / base
    assert AT_THE_ROOT.base(tmp_path) == tmp_path
