"""Run missing cells in dependency order, in parallel."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from src.core.process_lock import EXPIRY, Held, clear_abandoned, locked
from src.core.ticker import Ticker
from src.studies.plan.cells import Cell, Store
from src.studies.run.estimate import Measured, clock, first_step, rest, running
from src.studies.run.execution import Running
from src.studies.run.machine import accelerators

POLL = 0.2  # seconds between two checks of the running cells
RETRY = 3.0  # seconds between two checks of another process's cell
NEWS = 60.0  # seconds between two lines of progress without a terminal
PATIENCE = 60.0  # seconds for an interrupted cell to write its checkpoint


def default_jobs(gpus: int = 1) -> int:
    """Number of parallel cells: as the GPUs allow, `gpus` each, or one on the CPU, where a cell uses all cores."""
    return max(1, len(visible_accelerators()) // max(1, gpus))


def visible_accelerators() -> list[str]:
    """The ids of the GPUs that cells may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip()]
    return [str(index) for index in range(len(accelerators()))]


@dataclass
class Slot:
    """Slot for one cell at a time, with its own GPUs, if any."""

    environment: dict[str, str]
    processes: int = 1
    nodes: int = 1
    work: Running | None = None
    held: ExitStack = field(default_factory=ExitStack)

    def take(self, cell: Cell, store: Store) -> bool:
        """Starts a cell here, unless another process has finished it meanwhile; returns whether it started.

        Raises:
            Held: if another process runs it.
        """
        with ExitStack() as stack:
            lock = stack.enter_context(locked(store.folder(cell) / "lock"))
            if store.done(cell):
                return False
            self.work = Running.start(cell, store, lock, self.environment, self.processes, self.nodes)
            self.held = stack.pop_all()
        return True

    def clear(self) -> None:
        """Free the slot and the cell's lock."""
        self.work = None
        self.held.close()


class Runner:
    """Runs cells.

    Args:
        store: folder of the cells.
        cells: all cells of the study, each after the one it needs.
        jobs: number of parallel cells.
        seconds: after which the running cells write their checkpoints and end, and no other begins.
        gpus: GPUs of each cell; several run DDP. With 1, what the study says of devices stays.
        nodes: nodes of each cell; more than 1 only within a job that has them.
        environment: of the cells' processes; this one's by default.
    """

    def __init__(
        self,
        store: Store,
        cells: Iterable[Cell],
        jobs: int,
        seconds: float = math.inf,
        gpus: int = 1,
        nodes: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.store = store
        self.cells = list(cells)
        devices = visible_accelerators() if gpus else []
        places = [
            ",".join(devices[(slot * gpus + gpu) % len(devices)] for gpu in range(gpus)) if devices else ""
            for slot in range(jobs)
        ]
        own = os.environ if environment is None else environment
        self.slots = [
            Slot({**own, **({"CUDA_VISIBLE_DEVICES": ids} if ids else {})}, gpus or 1, nodes) for ids in places
        ]
        self.measured = Measured.of(store, self.cells)
        self.waiting = [cell for cell in self.cells if not store.done(cell)]
        self.failed: list[Cell] = []
        self.elsewhere: dict[str, float] = {}  # cells that another process runs, and when to look again
        self.ticker = Ticker("study", len(self.cells), len(self.cells) - len(self.waiting), every=NEWS)
        self.started: Callable[[], None] = lambda: None  # called when a cell's folder is ready and its process runs
        self.seconds = seconds
        self.out_of_time = False

    def run(self) -> list[Cell]:
        """Run all missing cells.

        Returns:
            The cells that failed, and those that need one of them.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the running cells have written their checkpoints.
        """
        finished = len(self.cells) - len(self.waiting)
        deadline = time.monotonic() + self.seconds
        self._clear_locks()
        if finished:
            self.ticker.say(f"{finished} of {len(self.cells)} stages are done already")
        try:
            while self.waiting or any(slot.work for slot in self.slots):
                for slot in self.slots:
                    self._look_after(slot)
                if time.monotonic() >= deadline:
                    self.out_of_time = True
                    break
                self._show()
                time.sleep(POLL)
        finally:
            self.stop()
            self.ticker.close()
        return self.failed

    def _clear_locks(self) -> None:
        """Remove locks of finished cells left by killed runners."""
        for lock in (self.store.folder(cell) / "lock" for cell in self.cells if self.store.done(cell)):
            if lock.exists():
                with suppress(Held):
                    clear_abandoned(lock, EXPIRY)

    def _say_step(self, work: Running) -> None:
        """Report once at which step a stage has resumed."""
        if work.resumed and not work.told and (step := first_step(work.folder)) is not None:
            work.told = True
            self.ticker.say(f"{self._place(work.cell)} {work.cell.title}: resumed at step {step}")

    def _look_after(self, slot: Slot) -> None:
        if slot.work is not None:
            self._say_step(slot.work)
        if slot.work is not None and slot.work.ended():
            work = slot.work
            spent = time.time() - work.started
            if work.conclude():
                self.measured.add(work.cell, spent)
                self.ticker.say(f"{self._place(work.cell)} {work.cell.title}: done ({clock(spent)})")
            else:
                self.failed.append(work.cell)
                place, log = self._place(work.cell), work.folder / "log.txt"
                self.ticker.say(f"{place} {work.cell.title}: FAILED, see {log} ({clock(spent)})")
            slot.clear()
        while slot.work is None and (cell := self._next()) is not None:
            try:
                started = slot.take(cell, self.store)
            except Held:
                if cell.identity not in self.elsewhere:
                    self.ticker.say(f"{self._place(cell)} {cell.title}: another process is running it, waiting")
                self.elsewhere[cell.identity] = time.monotonic() + RETRY
                continue
            self.waiting.remove(cell)
            if started and slot.work is not None:
                self.started()
                how = "reading its checkpoint" if slot.work.resumed else "started"
                self.ticker.say(f"{self._place(cell)} {cell.title}: {how}")

    def _next(self) -> Cell | None:
        """The first cell that can run now; drops those that can never run."""
        lost = {cell.identity for cell in self.failed}
        for cell in list(self.waiting):
            if cell.needs is not None and cell.needs.identity in lost:
                self.waiting.remove(cell)
                self.failed.append(cell)
            elif (cell.needs is None or self.store.done(cell.needs)) and (
                time.monotonic() >= self.elsewhere.get(cell.identity, 0.0)
            ):
                return cell
        return None

    def _place(self, cell: Cell) -> str:
        return f"[{self.cells.index(cell) + 1}/{len(self.cells)}]"

    def _show(self) -> None:
        working = [slot.work for slot in self.slots if slot.work is not None]
        self.ticker.to(len(self.cells) - len(self.waiting) - len(working) - len(self.failed), self._note)

    def _note(self) -> str:
        """Progress of the running cells, and the remaining time."""
        shares, seconds = [], []
        for work in (slot.work for slot in self.slots if slot.work is not None):
            share, left = running(work.folder, work.started, self.measured.seconds(work.cell))
            shares.append(
                f"{self._place(work.cell)} {work.cell.title} {'' if share is None else f'{share:.0%}'}".rstrip()
            )
            seconds.append(left)
        left = rest(self.measured, self.waiting, seconds)
        known = "measuring the time left" if left is None else f"about {clock(left / len(self.slots))} left"
        return f"{', '.join(shares)} · {known}"

    def stop(self) -> None:
        """Stop running cells, with a checkpoint, and free their locks."""
        running_now = [slot for slot in self.slots if slot.work is not None]
        for slot in running_now:
            assert slot.work is not None
            slot.work.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for slot in running_now:
            assert slot.work is not None
            while not slot.work.ended() and time.monotonic() < deadline:
                time.sleep(POLL)
            if not slot.work.ended():
                slot.work.process.kill()
            slot.clear()
