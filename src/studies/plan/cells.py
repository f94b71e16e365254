"""Cells: single stages of a study, stored under a hash of everything that decides their result.

runs/cells/<hash>/
  metrics.json       numbers and hash, the same bytes for the same cell; its presence says that the cell is done
  provenance.json    time, duration, hardware, commit; never compared
  cell.json          what was hashed, to find out why two cells differ
  failure.json       the last lines of the log of a cell that failed
  lock  log.txt      while it runs
  config.yaml, metrics.csv, checkpoints/, …   the run folder of the stage itself
"""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from src.config.composition import Config, lookup
from src.config.hashing import digest, manifest, resolved
from src.core.json_files import NUMBER, Expected, read_json
from src.studies.plan.stated_cost import StatedCost

# Increased when the code computes other numbers from the same configuration, so that no table mixes both.
RESULTS_VERSION = 3


# Keys that are read from a cell's files; a file without them is damaged.
METRICS: Expected = {"values": dict}
PROVENANCE: Expected = {
    **dict.fromkeys(("commit", "hardware", "python", "torch", "lightning", "timm", "finished"), str),
    **dict.fromkeys(("seconds", "peak_memory_bytes", "disk_bytes"), NUMBER),
}
FAILURE: Expected = {"title": str, "reason": str, "log": list}


class Spot(NamedTuple):
    """Position in the table."""

    row: str
    column: str
    seed: int


@dataclass(frozen=True)
class Cell:
    """One stage of a study with one seed.

    Attributes:
        made: Digest of `config` without its seed: cells that share it take equally long.
        lacks: Data, files and variables that this machine lacks. Without them the hash, which covers their content, is
            unknown, and `identity` is only a unique name.
        stated: Cost stated in the configuration's file.
    """

    stage: Literal["pretrain", "evaluate"]
    label: str
    seed: int
    config: Config = field(compare=False, repr=False)
    made: str = ""
    needs: "Cell | None" = None
    lacks: tuple[str, ...] = field(default=(), compare=False)
    stated: StatedCost = field(default=StatedCost(), compare=False)

    @property
    def missing(self) -> tuple[str, ...]:
        """Missing prerequisites of the cell or of the one that it needs; empty if its hash is known."""
        return tuple(dict.fromkeys([*(self.needs.lacks if self.needs else ()), *self.lacks]))

    @property
    def identity(self) -> str:
        """The hash that names the cell's folder."""
        return digest(self.content)

    @property
    def content(self) -> Config:
        """Everything that affects the cell's numbers."""
        needs = self.needs.identity if self.needs else None
        return {"version": RESULTS_VERSION, "stage": self.stage, "config": self.made, "seed": self.seed, "needs": needs}

    @property
    def title(self) -> str:
        """Title of the cell."""
        seed = self.needs.seed if self.needs else self.seed
        return f"{'pre-train' if self.stage == 'pretrain' else 'evaluate'} {self.label}, seed {seed}"


class Store:
    """The cells on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, cell: Cell) -> Path:
        """The cell's run folder."""
        return self.root / cell.identity

    def done(self, cell: Cell) -> bool:
        """Return True if the cell's numbers are complete."""
        return finished(self.folder(cell))

    def metrics(self, cell: Cell) -> Config | None:
        """The cell's numbers, or None if there are none yet."""
        return read_json(self.folder(cell) / "metrics.json", METRICS)

    def provenance(self, cell: Cell) -> Config | None:
        """Provenance of the cell."""
        return read_json(self.folder(cell) / "provenance.json", PROVENANCE)

    def failure(self, cell: Cell) -> Config | None:
        """Record of the cell's last failed attempt, or None."""
        return None if self.done(cell) else read_json(self.folder(cell) / "failure.json", FAILURE)


def finished(folder: Path) -> bool:
    """Return True if a cell's folder holds its numbers, whole."""
    file = folder / "metrics.json"
    try:
        state = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return _finished(file, state.st_mtime_ns, state.st_size)


@cache  # called several times a second while a study runs
def _finished(file: Path, changed: int, size: int) -> bool:
    return read_json(file, METRICS) is not None


def config_digest(config: Config) -> str:
    """Return the hash of a configuration as `resolved`, and of the data that it reads."""
    return digest(hashed_content(config))


def hashed_content(config: Config) -> Config:
    """Return the hashed part of a configuration."""
    root = ((config.get("data") or {}).get("init_args") or {}).get("root")
    return {"config": resolved(config), "data": manifest(Path(os.path.expandvars(root))) if root else None}


def planned_steps(config: Config) -> int | None:
    """Return the optimiser steps that a configuration states, or None where it counts epochs."""
    steps = lookup(config, "trainer.max_steps")
    return steps if isinstance(steps, int) and steps > 0 else None
