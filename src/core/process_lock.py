"""One cell, one process: a lock file that its owner keeps fresh and that expires when the owner is gone."""

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

EXPIRY = 120.0  # seconds without a sign of life after which an owner on another machine counts as gone (our choice)
BEAT = 10.0  # seconds between two signs of life (our choice)


class Held(Exception):
    """Another process runs this cell."""


class Lock:
    """A held lock; `add` names further processes that must be gone before another may take over on this machine."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token
        self.processes = [os.getpid()]

    def add(self, process: int) -> None:
        """Names one more process that works under this lock."""
        self.processes.append(process)
        part = self.path.with_name(f".{self.path.name}.{self.token}")
        part.write_text(self.text(), encoding="utf-8")
        os.replace(part, self.path)

    def text(self) -> str:
        """The content of the lock file."""
        return json.dumps({"token": self.token, "host": socket.gethostname(), "processes": self.processes})


@contextmanager
def locked(path: Path, expiry: float = EXPIRY, beat: float = BEAT) -> Iterator[Lock]:
    """Holds the lock file at `path`, taking over one whose owner is gone.

    An owner on this machine is gone when none of its processes is alive, one anywhere when its file has not been
    touched for `expiry` seconds.

    Raises:
        Held: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Creates the lock file, or raises `Held`."""
    complete = lock.path.with_name(f".{lock.path.name}.{lock.token}")
    complete.write_text(lock.text(), encoding="utf-8")
    try:
        for _ in range(2):  # a second time, should the owner let go between the two looks
            try:
                os.link(complete, lock.path)  # appears with its content or not at all, and never over another
                return
            except FileExistsError:
                if not abandoned(lock.path, expiry):
                    continue
            with takeover(lock.path):
                if abandoned(lock.path, expiry):  # still: another may have taken it meanwhile
                    os.replace(complete, lock.path)  # at no moment is there no lock, so nobody can slip in
                    return
        raise Held(str(lock.path))
    finally:
        complete.unlink(missing_ok=True)


def clear_abandoned(path: Path, expiry: float) -> None:
    """Removes a lock whose owner is gone, or raises `Held`."""
    with takeover(path):
        if abandoned(path, expiry):
            path.unlink(missing_ok=True)
        elif path.exists():
            raise Held(str(path))


def takeover(path: Path) -> FileLock:
    """Only within this context may a lock be taken from its owner: several that see it abandoned take turns to look."""
    return FileLock(path.with_name(".takeover"))


def abandoned(path: Path, expiry: float) -> bool:
    """Return whether there is a lock whose owner is gone."""
    return path.exists() and gone(path, owner(path), expiry)


def gone(path: Path, found: dict[str, Any], expiry: float) -> bool:
    """Return whether the owner of a lock no longer lives."""
    if found.get("host") == socket.gethostname() and not any(map(alive, found.get("processes", []))):
        return True
    try:
        return time.time() - path.stat().st_mtime > expiry
    except FileNotFoundError:
        return False


def owner(path: Path) -> dict[str, Any]:
    """The content of a lock file; empty where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def alive(process: int) -> bool:
    """Return whether a process of this machine runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
