"""Cost that the header of a configuration states in its line COST, such as `2 cores: 26 minutes, 2.1 GB of memory.`"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from src.config.experiment_files import located

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_DURATION = re.compile(r"([\d.]+) (second|minute|hour|day)s?\b(?! a step)")
_MEMORY = re.compile(r"([\d.]+) GB(?! GPU)")


class StatedCost(NamedTuple):
    """Seconds and bytes of memory; None for what is not stated."""

    seconds: float | None = None
    memory: float | None = None

    def scaled(self, factor: float) -> StatedCost:
        """Return the cost of `factor` times as many steps, which need the same memory."""
        return StatedCost(None if self.seconds is None else factor * self.seconds, self.memory)


@cache
def stated_cost(file: Path) -> StatedCost:
    """Read the cost that a configuration states of itself; of several durations the longest counts."""
    text = stated_text(file)
    durations = [float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)]
    memory = [float(number) * 1e9 for number in _MEMORY.findall(text)]
    return StatedCost(max(durations, default=None), max(memory, default=None))


def stated_text(file: Path) -> str:
    """Return the paragraph COST of a configuration's header, on one line; empty if there is none."""
    header = re.match(r"(?:#.*\n)*", located(file).read_text(encoding="utf-8"))
    lines = re.search(r"^# COST .*(?:\n#  +.*)*", header[0] if header else "", re.MULTILINE)
    return " ".join(re.sub(r"^# (?:COST)?", "", lines[0] if lines else "", flags=re.MULTILINE).split())
