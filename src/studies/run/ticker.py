"""Progress display of a study: an updating line on a terminal, plain lines elsewhere."""

import shutil
import sys
import time

from src.studies.run.estimate import clock

EVERY = 60.0  # seconds between two progress lines where there is no terminal


class Ticker:
    """Prints events at once, and progress on the last line of a terminal or now and then into a file."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._began = time.monotonic()
        self._shown = time.monotonic()

    def say(self, text: str, seconds: float | None = None) -> None:
        """A line that stays."""
        self.clear()
        print(text if seconds is None else f"{text} ({clock(seconds)})", flush=True)

    def show(self, text: str, left: float | None) -> None:
        """Show the study's progress; `left` is in seconds, None where nothing is measured yet."""
        gone = clock(time.monotonic() - self._began)
        line = f"{text} · {gone} gone, {'measuring the time left' if left is None else f'about {clock(left)} left'}"
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
        elif text and time.monotonic() - self._shown >= EVERY:
            print(line, flush=True)
            self._shown = time.monotonic()

    def clear(self) -> None:
        """Takes the moving line away."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)
