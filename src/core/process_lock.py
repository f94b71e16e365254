"""One process per cell: a lock file that its owner keeps updating, taken over when the owner is gone.

On the owner's machine the lock is held as long as one of its processes exists, even stopped. Other machines only see
the file: its owner counts as gone when the file's time has not changed for a while on the watcher's own monotonic
clock, so that clocks of two machines are never compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.core.atomic_files import make_folder, write_text

EXPIRY = 120.0  # seconds without a change after which an owner on another machine counts as gone (our choice)
BEAT = 10.0  # seconds between two updates (our choice)


# Locks of other machines observed by this process: path → (token and time of the file, seen since when).
_seen: dict[str, tuple[tuple[Any, int] | None, float]] = {}


class Held(Exception):
    """Another process is running this cell."""


class Lock:
    """A held lock; `add` registers further processes that must be gone before another may take over on this machine."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token
        self.processes = [os.getpid()]
        self.started = [started(os.getpid())]

    def add(self, process: int) -> None:
        """Register another process that works under this lock."""
        self.processes.append(process)
        self.started.append(started(process))
        part = self.path.with_name(f".{self.path.name}.{self.token}")
        part.write_text(self.text(), encoding="utf-8")
        os.replace(part, self.path)

    def text(self) -> str:
        """The content of the lock file."""
        content = {"host": socket.gethostname(), "processes": self.processes, "started": self.started}
        return json.dumps({"token": self.token, **content})


@contextmanager
def locked(path: Path, expiry: float = EXPIRY, beat: float = BEAT) -> Iterator[Lock]:
    """Hold the lock file at `path`; take it over if its owner is gone.

    An owner on this machine is gone when none of its processes exists any more; one on another machine when its file
    has not changed for `expiry` seconds that this process has watched it: so the lock of another machine is never taken
    at the first attempt.

    Raises:
        Held: if another process holds it.
    """
    make_folder(path.parent)
    lock = Lock(path, uuid.uuid4().hex)
    take(lock, expiry)
    over = threading.Event()

    def stay_alive() -> None:
        while not over.wait(beat):
            if owner(path).get("token") == lock.token:
                os.utime(path)

    heart = threading.Thread(target=stay_alive, daemon=True)
    heart.start()
    try:
        yield lock
    finally:
        over.set()
        heart.join()
        if owner(path).get("token") == lock.token:
            path.unlink(missing_ok=True)


def take(lock: Lock, expiry: float) -> None:
    """Create the lock file, or raise `Held`."""
    complete = lock.path.with_name(f".{lock.path.name}.{lock.token}")
    write_text(complete, lock.text())
    try:
        for _ in range(2):  # a second time, in case the owner releases it in between
            try:
                os.link(complete, lock.path)  # appears with its complete content, and never replaces another
                return
            except FileExistsError:
                if not abandoned(lock.path, expiry):
                    continue
            with takeover(lock.path):
                if abandoned(lock.path, expiry):  # only if no other process has taken it meanwhile
                    os.replace(complete, lock.path)  # so that there is always a lock file for another process to take
                    return
        raise Held(str(lock.path))
    finally:
        complete.unlink(missing_ok=True)


def clear_abandoned(path: Path, expiry: float) -> None:
    """Remove a lock whose owner is gone, or raise `Held`."""
    with takeover(path):
        if abandoned(path, expiry):
            path.unlink(missing_ok=True)
        elif path.exists():
            raise Held(str(path))


def takeover(path: Path) -> FileLock:
    """Context in which a lock may be taken over, by one process at a time."""
    return FileLock(path.with_name(".takeover"))


def abandoned(path: Path, expiry: float) -> bool:
    """Return whether there is a lock whose owner is gone."""
    return path.exists() and gone(path, owner(path), expiry)


def gone(path: Path, found: dict[str, Any], expiry: float) -> bool:
    """Return True if the owner of a lock no longer lives."""
    if found.get("host") == socket.gethostname():
        processes = found.get("processes", [])
        return not any(map(alive, processes, found.get("started") or [None] * len(processes)))
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        _seen.pop(str(path), None)
        return False
    now, state = time.monotonic(), (found.get("token"), changed)
    before, since = _seen.get(str(path), (None, now))
    if before != state:
        since = now
    _seen[str(path)] = state, since
    return before == state and now - since > expiry


def owner(path: Path) -> dict[str, Any]:
    """The content of a lock file; empty if it is missing or unreadable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def alive(process: int, since: int | None = None) -> bool:
    """Return True if a process of this machine exists, stopped ones included; zombies do not count.

    Args:
        process: Its id.
        since: Its start time (`started`), to exclude a later process with the same id. None if the system has no start
            times.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = _status(process)
    if not status:
        return True
    return status[0] != "Z" and since in (None, int(status[19]))


def started(process: int) -> int | None:
    """Start time of a process, in ticks since the machine's boot; None if unknown."""
    status = _status(process)
    return int(status[19]) if status else None


def _status(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty without such a file."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
