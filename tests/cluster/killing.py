"""Work in a forked process, killed at random moments or told to end, and started again until it is done."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from src.core.interruption import interrupt_on_notice


def forked(work: Callable[[], object], log: Path) -> int:
    """Start the work in a copy of this process, which has all modules at hand; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        found = work()
        code = found if isinstance(found, int) else 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def ended(process: int) -> int | None:
    """The exit code of a forked process, negative for a signal; None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def seconds_of(work: Callable[[], object], log: Path) -> float:
    """How long the work takes undisturbed; it has to succeed."""
    began = time.monotonic()
    process = forked(work, log)
    while (code := ended(process)) is None:
        time.sleep(0.01)
    assert code == 0, log.read_text()[-3000:]
    return time.monotonic() - began


def killed_at_random(work: Callable[[], object], log: Path, seconds: float, kills: int, moments: random.Random) -> int:
    """Run the work until it is done, killing it as long as there are kills left; returns how often that was.

    Args:
        work: Resumes where it was.
        log: Of all its attempts.
        seconds: That it takes undisturbed: each attempt is killed in the first 70 % of that.
        kills: Most of them.
        moments: Random numbers.
    """
    done = 0
    while True:
        process = forked(work, log)
        deadline = time.monotonic() + moments.uniform(0.05, 0.7) * seconds
        while (code := ended(process)) is None:
            if done < kills and time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                with suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
                done += 1
                deadline = float("inf")
            time.sleep(0.005)
        if code == 0:
            return done
        assert code == -signal.SIGKILL, log.read_text()[-3000:]


def noticed(work: Callable[[], object], log: Path, notice: int, moment: float | None, grace: float) -> int:
    """Run the work as the program does, and send it a signal; returns its exit code, which has to come in time.

    Args:
        work: Returns an exit code.
        log: Of its output.
        notice: The signal.
        moment: Seconds after the start; None for no signal at all.
        grace: Seconds that it has from then on.
    """

    def program() -> object:
        interrupt_on_notice()
        return work()

    process, began, told = forked(program, log), time.monotonic(), None
    while (code := ended(process)) is None:
        now = time.monotonic()
        if told is None and moment is not None and now - began > moment:
            os.kill(process, notice)
            told = now
        if told is not None and now - told > grace:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise AssertionError(f"not ended {grace:g} s after the signal: {log.read_text()[-3000:]}")
        time.sleep(0.01)
    return code
