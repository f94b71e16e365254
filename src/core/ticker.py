"""Show progress: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

NOTE_SECONDS = 1.0  # seconds between two notes on a terminal, since reading a loss waits for the device


class Ticker:
    """Progress towards `total`.

    Args:
        label: Name of the counted unit.
        total: The number at the end, or None if it is not known.
        start: Units done before, in a resumed run.
        every: Without a terminal, seconds between two lines, which show the elapsed time without an estimate; None for
            a line with an estimate at each tenth.
    """

    def __init__(self, label: str, total: int | None, start: int = 0, every: float | None = None) -> None:
        self.label, self.total, self.start, self.done, self.every = label, total, start, start, every
        self._began = self._shown = time.monotonic()
        self._noted = -math.inf
        self._tenth = 10 * start // total if total else 0
        # no rate, since units take from seconds to hours
        form = None if every is None else "{desc} {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        live = sys.stderr.isatty()
        self._bar = tqdm(desc=label, total=total, initial=start, dynamic_ncols=True, bar_format=form) if live else None

    def to(self, done: int, note: Callable[[], str] = str) -> None:
        """Move on to `done`; `note` is shown after the count, and only called then."""
        now = time.monotonic()
        if self._bar is not None:
            if now - self._noted >= NOTE_SECONDS:
                self._bar.set_postfix_str(note(), refresh=done == self.done)
                self._noted = now
            self._bar.update(done - self.done)
        elif self.every is not None:
            if now - self._shown >= self.every:
                print(f"{self.label} {done}/{self.total}, {tqdm.format_interval(now - self._began)} elapsed; {note()}")
                sys.stdout.flush()
                self._shown = now
        elif self.total and 10 * done // self.total > self._tenth:
            self._tenth = 10 * done // self.total
            left = tqdm.format_interval((now - self._began) / (done - self.start) * (self.total - done))
            print(f"{self._share(done)}, {left} left {note()}".rstrip(), flush=True)
        self.done = done

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._bar is not None:
            tqdm.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _share(self, done: int) -> str:
        assert self.total
        return f"{self.label} {done}/{self.total} ({100 * done // self.total} %)"
