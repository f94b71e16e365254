"""Stop all training processes when one fails, with one message that names it and the reason.

Rank 0 starts the other processes of its node. One that fails leaves a note in the run folder and exits; as its last
output rank 0 then prints the note, or the signal that killed the process. Lightning's own launcher kills all processes
within five seconds of the first exit, before they can report.
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

POLL = 0.5  # seconds between two checks of the other processes
GRACE = 15.0  # seconds for a process that has lost another one to find out why (our choice)

# Errors of torch.distributed after the loss of another process: gloo's, NCCL's, and the store's.
_LOST = re.compile(
    r"gloo|nccl|connection (?:was )?(?:closed|reset|refused)|broken pipe|socket|TCPStore|timed out waiting|peer",
    re.IGNORECASE,
)


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the other processes of this node, and stops all if one has failed and rank 0 hangs."""

    def __init__(self, original: _SubprocessScriptLauncher, folder: Path) -> None:
        super().__init__(original.cluster_environment, original.num_processes, original.num_nodes)
        self.folder = folder
        self.over = threading.Event()  # rank 0 exits by itself

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
        """Send a signal to the processes, whose exit then does not count as a failure."""
        self.over.set()
        super().kill(signum)

    def dead(self) -> str | None:
        """Describe the first failed process; None while there is none."""
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
                if not self.over.wait(GRACE):  # rank 0 hangs in a collective operation that never ends
                    print(f"error: {printable(story(self, self.folder, 0.0), lines=True)}", file=sys.stderr, flush=True)
                    self.kill(signal.SIGKILL)
                    os._exit(1)
                return


def watch(trainer: Trainer) -> None:
    """Let a trainer start its processes, if any, by `WatchedLauncher`; they exit with the process that started them."""
    launcher = trainer.strategy.launcher
    if type(launcher) is not _SubprocessScriptLauncher:
        return
    trainer.strategy._launcher = WatchedLauncher(launcher, Path(trainer.default_root_dir))
    if started_by_another():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def started_by_another() -> bool:
    """Return True in a process started by rank 0 of its node."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


@contextmanager
def failing_together(trainer: Trainer) -> Iterator[None]:
    """Let rank 0 report the failed process; the others leave it a note and exit silently.

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
            time.sleep(4 * POLL if lost else 0.0)  # `_end_with` reports if rank 0 itself is gone
            raise SystemExit(1) from error
        told = story(launcher, folder, GRACE) if lost else None
        for process in launcher.procs:
            process.kill()
        if told is None:
            raise
        raise UserError(told) from None


def is_lost_peer(error: BaseException) -> bool:
    """Return True if an error only means that another process is gone."""
    return isinstance(error, RuntimeError) and not isinstance(error, UserError) and _LOST.search(str(error)) is not None


def leave_note(folder: Path, rank: int, error: BaseException) -> None:
    """Leave a note for rank 0 on why this process exits; the traceback, if it is a bug."""
    message = user_message(error) or "".join(traceback.format_exception(error)).rstrip()
    with suppress(OSError):  # a missing or unshared folder may be the cause of the error
        write_json(
            folder / f"failed-rank-{rank}.json", {"rank": rank, "host": socket.gethostname(), "message": message}
        )


def story(launcher: WatchedLauncher, folder: Path, patience: float) -> str:
    """Describe the failed process and the reason.

    Args:
        launcher: Rank 0's.
        folder: The run folder.
        patience: Seconds to wait for the first note.
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
    """Exit with the parent process, which may be killed while this one waits for it."""
    while os.getppid() == parent:
        time.sleep(POLL)
    if os.environ["LOCAL_RANK"] == "1":  # one message is enough
        host = socket.gethostname()
        print(
            f"error: the first process of {host} ({parent}) is gone; stopping the others", file=sys.stderr, flush=True
        )
    os._exit(1)
