"""Train programs in turns, and compare two of them in a row."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pace import MARK

TREE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contestant:
    """Program that trains in turns.

    Attributes:
        name: Name in the table.
        command: Program and arguments, except for the number of steps.
        folder: Working folder.
    """

    name: str
    command: tuple[str, ...]
    folder: Path = TREE


@dataclass(frozen=True)
class Pair:
    """A row: the second one's time and memory are divided by the first one's.

    Attributes:
        part: `own`, `blocks`, `commit`, `lightly-train` or `udi`.
        setting: In words.
        ours: The first.
        other: The second.
    """

    part: str
    setting: str
    ours: Contestant
    other: Contestant


class Turns:
    """A running contestant."""

    def __init__(self, contestant: Contestant, steps: int, log: Path) -> None:
        self.contestant = contestant
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*contestant.command, "--steps", str(steps)],
                cwd=contestant.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def turn(self) -> dict[str, Any]:
        """Run its steps.

        Raises:
            RuntimeError: If it exited instead, with its last output.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                report: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return report
        raise RuntimeError(f"{self.contestant.name} ended:\n{self.log.read_text(errors='replace')[-2000:]}")

    def end(self) -> None:
        """Close its input, at which it exits."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(contestant: Contestant, steps: int, folder: Path) -> Iterator[Turns]:
    """Run a contestant, and stop it afterwards."""
    turns = Turns(contestant, steps, folder / "log.txt")
    try:
        yield turns
    finally:
        turns.end()


def measure(pair: Pair, turns: int, steps: int) -> dict[str, Any]:
    """A row of the report."""
    reports: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    with ExitStack() as stack:
        both = []
        for contestant in (pair.ours, pair.other):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            both.append(stack.enter_context(running(contestant, steps, folder)))
        for _ in range(1 + turns):
            for contestant, kept in zip(both, reports, strict=True):
                kept.append(contestant.turn())
    ours, other = reports
    counted = list(zip(ours[1:], other[1:], strict=True))
    ratios = [second["seconds"] / first["seconds"] for first, second in counted]
    worked = [second["processor_seconds"] / max(1e-9, first["processor_seconds"]) for first, second in counted]
    losses = [
        abs(a - b) / abs(a)
        for first, second in zip(ours, other, strict=True)
        for a, b in zip(first["losses"], second["losses"], strict=True)
    ]
    return {
        "part": pair.part,
        "setting": pair.setting,
        "ours": pair.ours.name,
        "other": pair.other.name,
        "ours_seconds": round(median(report["seconds"] for report in ours[1:]), 4),
        "other_seconds": round(median(report["seconds"] for report in other[1:]), 4),
        "time_ratio": round(median(ratios), 3),
        "time_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "processor_time_ratio": round(median(worked), 3),
        "processor_time_ratio_range": [round(min(worked), 3), round(max(worked), 3)],
        "ours_gflop": ours[0].get("gflop"),
        "other_gflop": other[0].get("gflop"),
        "ours_peak_mib": ours[-1]["peak_mib"],
        "other_peak_mib": other[-1]["peak_mib"],
        "memory_ratio": round(other[-1]["peak_mib"] / ours[-1]["peak_mib"], 3),
        "memory_ratio_above_imports": round(
            other[-1]["peak_above_imports_mib"] / max(1.0, ours[-1]["peak_above_imports_mib"]), 3
        ),
        "largest_relative_difference_of_losses": max(losses, default=None) if pair.part == "commit" else None,
    }
