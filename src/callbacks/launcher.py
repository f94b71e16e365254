"""Processes that train together end together, with one message that says which of them failed, and why.

Rank 0 starts the other processes of its node. One that fails leaves a note in the run folder and ends; rank 0 then
tells what the note says, or by which signal the process was killed, as the last thing printed. Lightning's own launcher
kills all processes within five seconds of the first one's end, whatever they had to say.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from src.core.errors import UserError, user_message
from src.core.json_files import read_json, write_json
from src.core.printable import printable

POLL = 0.5  # seconds between two looks at the other processes
GRACE = 15.0  # seconds in which a process that has lost another one may find out why (our choice)

# Errors of torch.distributed in a process that lost another one: gloo's, NCCL's, and the store's.
_LOST = re.compile(
    r"gloo|nccl|connection (?:was )?(?:closed|reset|refused)|broken pipe|socket|TCPStore|timed out waiting|peer",
    re.IGNORECASE,
)


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the other processes of this node, and ends all when one has failed and rank 0 hangs."""

    def __init__(self, original: _SubprocessScriptLauncher, folder: Path) -> None:
        super().__init__(original.cluster_environment, original.num_processes, original.num_nodes)
        self.folder = folder
        self.over = threading.Event()  # rank 0 ends by itself

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the processes, then call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            for left in self.folder.glob("failed-rank-*.json"):
                left.unlink()
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def kill(self, signum: int) -> None:
        """Send a signal to the processes; what follows does not count as a failure."""
        self.over.set()
        super().kill(signum)

    def dead(self) -> str | None:
        """Describe the first process that has failed; None while there is none."""
        first = int(os.environ.get("NODE_RANK", "0")) * self.num_processes
        for rank, process in enumerate(self.procs, start=first + 1):
            code = process.poll()
            if code:
                who = f"rank {rank} (process {process.pid} on {socket.gethostname()})"
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"{who} {how}"
        return None

    def _watch(self) -> None:
        while not self.over.wait(POLL):
            if all(process.poll() == 0 for process in self.procs):
                return
            if self.dead() is not None:
                if not self.over.wait(GRACE):  # rank 0 hangs in a collective that will never end
                    print(f"error: {printable(story(self, self.folder, 0.0), lines=True)}", file=sys.stderr, flush=True)
                    self.kill(signal.SIGKILL)
                    os._exit(1)
                return


def watch(trainer: Trainer) -> None:
    """Let a trainer start its processes, if any, by `WatchedLauncher`; those end with the one that started them."""
    launcher = trainer.strategy.launcher
    if type(launcher) is not _SubprocessScriptLauncher:
        return
    trainer.strategy._launcher = WatchedLauncher(launcher, Path(trainer.default_root_dir))
    if started_by_another():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def started_by_another() -> bool:
    """Return True in a process that rank 0 of its node has started."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


@contextmanager
def failing_together(trainer: Trainer) -> Iterator[None]:
    """Let rank 0 tell which process failed; the others leave it a note and end without a word.

    Raises:
        UserError: In rank 0, if another process has failed.
        SystemExit: In the others.
    """
    try:
        yield
    except Exception as error:
        launcher, folder = trainer.strategy.launcher, Path(trainer.default_root_dir)
        if trainer.world_size == 1 or not isinstance(launcher, WatchedLauncher):
            raise
        launcher.over.set()
        lost = is_lost_peer(error)
        if not lost:
            leave_note(folder, trainer.global_rank, error)
        if started_by_another():
            time.sleep(4 * POLL if lost else 0.0)  # should rank 0 itself be the one that is gone, `_end_with` says so
            raise SystemExit(1) from error
        told = story(launcher, folder, GRACE) if lost else None
        for process in launcher.procs:
            process.kill()
        if told is None:
            raise
        raise UserError(told) from None


def is_lost_peer(error: BaseException) -> bool:
    """Return True if an error only says that another process is gone."""
    return isinstance(error, RuntimeError) and not isinstance(error, UserError) and _LOST.search(str(error)) is not None


def leave_note(folder: Path, rank: int, error: BaseException) -> None:
    """Write down for rank 0 why this process ends; the traceback, if it is a bug."""
    message = user_message(error) or "".join(traceback.format_exception(error)).rstrip()
    with suppress(OSError):  # a folder that is not there, or not shared, may be what the error is about
        write_json(
            folder / f"failed-rank-{rank}.json", {"rank": rank, "host": socket.gethostname(), "message": message}
        )


def story(launcher: WatchedLauncher, folder: Path, patience: float) -> str:
    """Tell which process failed, and why.

    Args:
        launcher: Of rank 0.
        folder: The run folder.
        patience: Seconds to wait for the first news.
    """
    deadline = time.monotonic() + patience
    while True:
        for file in sorted(folder.glob("failed-rank-*.json")):
            note = read_json(file, {"rank": int, "host": str, "message": str})
            if note is not None:
                return f"rank {note['rank']} ({note['host']}): {note['message']}"
        dead = launcher.dead()
        if dead is not None:
            return f"{dead}; the other processes were stopped"
        if time.monotonic() >= deadline:
            return "the connection to a process on another node was lost; the logs of the other nodes say why"
        time.sleep(POLL)


def _end_with(parent: int) -> None:
    """End this process with the one that started it, which may have been killed while this one waits for it."""
    while os.getppid() == parent:
        time.sleep(POLL)
    if os.environ["LOCAL_RANK"] == "1":  # one message is enough
        host = socket.gethostname()
        print(
            f"error: the first process of {host} ({parent}) is gone; stopping the others", file=sys.stderr, flush=True
        )
    os._exit(1)
