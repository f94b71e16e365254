"""SIGTERM and SIGUSR1, by which schedulers announce the end of a job: all is saved in time, and nothing is lost."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.cluster.killing import noticed, seconds_of
from tests.cluster.works import WORKS

GRACE = 60.0  # seconds between a notice and the kill: half of what docs/clusters.md asks of a scheduler
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("notice", [signal.SIGTERM, signal.SIGUSR1], ids=lambda notice: notice.name)
def test_a_notice_is_taken_for_ctrl_c_and_the_same_command_resumes(
    notice: signal.Signals, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WORKS[name](tmp_path, monkeypatch) as work:
        seconds = seconds_of(lambda: work.run(tmp_path / "calm"), tmp_path / "calm.log")
        expected, moments, codes = work.after(tmp_path / "calm"), random.Random(name), []
        while 0 not in codes:
            moment = seconds * moments.uniform(0.2, 0.6) if len(codes) < 2 else None
            codes.append(noticed(lambda: work.run(tmp_path / "out"), tmp_path / "log", notice, moment, GRACE))
        assert codes == [130] * (len(codes) - 1) + [0] and len(codes) > 1, (tmp_path / "log").read_text()[-3000:]
        assert work.after(tmp_path / "out") == expected
