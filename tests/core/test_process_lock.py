"""A lock has one owner, outlives no process, and is taken over by one successor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from src.core.process_lock import Held, locked, owner, started


def dead_process() -> int:
    """The id of a process that has just ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(path: Path, **content: object) -> None:
    """A lock file as another process left it."""
    path.write_text(json.dumps({"token": "other", "host": os.uname().nodename, "processes": [os.getpid()], **content}))


def test_a_second_owner_is_refused_and_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "cell" / "lock"
    with locked(path):
        with pytest.raises(Held), locked(path):
            pytest.fail("both hold it")
        assert owner(path)["processes"] == [os.getpid()]
    assert list(path.parent.iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    leave(path, processes=[dead_process()])
    with locked(path) as lock:
        assert owner(path)["token"] == lock.token


def test_a_lock_lasts_while_any_of_its_processes_does(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    leave(path, processes=[dead_process(), os.getpid()])
    with pytest.raises(Held), locked(path):
        pytest.fail("taken over")


@pytest.mark.parametrize("ahead", [-10_000, 0, 10_000])  # seconds of the other machine's clock
def test_the_lock_of_another_machine_expires_when_its_time_no_longer_changes(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("src.core.process_lock.time.monotonic", lambda: now[0])
    path = tmp_path / "lock"
    leave(path, host="elsewhere", processes=[1])

    def beat() -> None:
        os.utime(path, (time.time() + ahead + now[0],) * 2)

    def refused() -> None:
        with pytest.raises(Held), locked(path, expiry=100):
            pytest.fail("taken over")

    beat()
    for _ in range(3):  # alive: its time changes, by whatever clock
        refused()
        now[0] += 90
        beat()
    refused()
    now[0] += 99
    refused()
    now[0] += 2
    with locked(path, expiry=100) as lock:
        assert owner(path)["token"] == lock.token


@pytest.mark.parametrize("age", [-10_000, 10_000])
def test_a_stopped_process_of_this_machine_keeps_its_lock(age: int, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        process.send_signal(signal.SIGSTOP)
        leave(path, processes=[process.pid], started=[started(process.pid)])
        os.utime(path, (time.time() - age,) * 2)
        with pytest.raises(Held), locked(path, expiry=0.01):
            pytest.fail("taken over")
    finally:
        process.kill()
        process.wait()
    with locked(path, expiry=0.01) as lock:
        assert owner(path)["token"] == lock.token


@pytest.mark.skipif(started(os.getpid()) is None, reason="this system tells no start times of processes")
def test_another_process_with_the_same_id_keeps_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    now = started(os.getpid())
    assert now is not None
    leave(path, started=[now - 1])
    with locked(path) as lock:
        assert owner(path)["token"] == lock.token


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{", b"null"])
def test_a_damaged_lock_counts_as_another_machines(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("src.core.process_lock.time.monotonic", lambda: now[0])
    path = tmp_path / "lock"
    path.write_bytes(content)
    with pytest.raises(Held), locked(path, expiry=100):
        pytest.fail("taken at the first look")
    now[0] += 101
    with locked(path, expiry=100) as lock:
        assert owner(path)["token"] == lock.token


def test_the_owner_keeps_its_lock_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, beat=0.02):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_an_owner_that_lost_its_lock_does_not_delete_the_successors(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        leave(path)
    assert owner(path)["token"] == "other"


def test_of_many_that_see_an_abandoned_lock_one_gets_it(tmp_path: Path) -> None:
    for attempt in range(20):
        path = tmp_path / f"lock{attempt}"
        leave(path, processes=[dead_process()] if attempt == 0 else [999_999_999])
        start, lost = threading.Barrier(8), threading.Semaphore(0)

        def try_it(_: int, path: Path = path, start: Any = start, lost: Any = lost) -> int:
            start.wait()
            try:
                with locked(path):
                    return sum(lost.acquire(timeout=20) for _ in range(7))  # hold it until all others have seen it
            except Held:
                lost.release()
                return -1

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(try_it, range(8))) == [-1] * 7 + [7]


def test_further_processes_are_named_in_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as lock:
        lock.add(123)
        found = owner(path)
        assert (found["token"], found["host"]) == (lock.token, os.uname().nodename)
        assert found["processes"] == [os.getpid(), 123]
        assert found["started"] == [started(os.getpid()), started(123)]
