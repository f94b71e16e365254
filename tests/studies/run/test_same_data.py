"""A study refuses data whose contents changed under the same names and sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.config import hashing
from src.core.errors import UserError
from src.studies.plan.cells import Cell, Store
from src.studies.run.same_data import check_same_data


@pytest.mark.parametrize("name", ["a.png", "masks/a.bmp", ".hidden"])
def test_changed_contents_are_refused_and_copies_are_not(tmp_path: Path, name: str) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "masks").mkdir(parents=True)
        for each in ("a.png", "masks/a.bmp", ".hidden"):
            (tmp_path / place / each).write_bytes(b"0123")
    store = Store(tmp_path / "runs" / "cells")

    def check(place: str) -> None:
        hashing.manifest.cache_clear()
        root = {"data": {"init_args": {"root": str(tmp_path / place)}}}
        check_same_data(store, [Cell("pretrain", "x", 0, root), Cell("pretrain", "y", 0, {"data": {"init_args": {}}})])

    check("here")
    os.utime(tmp_path / "there" / name, (1, 1))
    check("there")
    (tmp_path / "there" / name).write_bytes(b"0124")
    if name == ".hidden":
        return check("there")
    with pytest.raises(UserError, match=r"names and sizes .* but other contents; restore"):
        check("there")
    (tmp_path / "there" / name).write_bytes(b"01234")  # another size is another cell
    check("there")
