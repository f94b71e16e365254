"""Twenty kills at random moments: what comes out is the same, and nothing ran to its end twice.

Those of a study are in tests/studies/run/test_runner.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cluster.killing import killed_at_random, seconds_of
from tests.cluster.works import WORKS

KILLS = 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("name", ["adapt", "prepare", "sweep"])
def test_it_ends_as_if_it_had_never_been_killed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WORKS[name](tmp_path, monkeypatch) as work:
        seconds = seconds_of(lambda: work.run(tmp_path / "calm"), tmp_path / "calm.log")
        expected, left, moments = work.after(tmp_path / "calm"), KILLS, random.Random(name)
        for number in range(KILLS):
            if not left:
                return
            folder = tmp_path / f"killed-{number}"
            left -= killed_at_random(lambda out=folder: work.run(out), tmp_path / "log", seconds, left, moments)
            assert work.after(folder) == expected, f"attempt {number}"
    raise AssertionError(f"{left} kills came too late")
