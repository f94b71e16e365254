"""Starting one cell as a process, and taking in what it leaves."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from src.studies.cells import Cell, Store, hashed_content, read_json, write_json
from src.studies.config import Config, lookup, override, write
from src.studies.curves import read_curves
from src.studies.defaults import defaults
from src.studies.lock import Lock
from src.studies.machine import machine

LOG_LINES = 12  # of a failed cell that a table's footer shows


def stage_config(cell: Cell, store: Store) -> Config:
    """The configuration that a cell's process gets: the study's, its seed, its run folder, and the adapter it needs."""
    callbacks = lookup(cell.config, "trainer.callbacks") or []
    changes: Config = {
        "seed_everything": cell.seed,
        "trainer.default_root_dir": str(store.folder(cell)),
        "trainer.enable_progress_bar": False,
        "trainer.enable_model_summary": False,
        "trainer.callbacks": [*callbacks, {"class_path": "src.studies.progress.StageProgress"}],
    }
    for part in ("model", "data"):
        if "seed" in defaults(str(lookup(cell.config, f"{part}.class_path", ""))):
            changes[f"{part}.init_args.seed"] = cell.seed
    if cell.needs is not None:
        adapter = store.folder(cell.needs) / "adapter.safetensors"
        changes["model.init_args.backbone.init_args.adapter"] = str(adapter)
    return override(cell.config, changes)


@dataclass
class Running:
    """A cell's process."""

    cell: Cell
    folder: Path
    process: subprocess.Popen[bytes]
    resumed: bool
    started: float = field(default_factory=time.time)
    usage: resource.struct_rusage | None = None

    @classmethod
    def start(cls, cell: Cell, store: Store, lock: Lock, environment: Mapping[str, str]) -> "Running":
        """Starts the cell's process, from its last checkpoint where a pre-training left one."""
        folder = store.folder(cell)
        resumed = cell.stage == "pretrain" and (folder / "checkpoints" / "last.ckpt").is_file()
        if not resumed:
            for left in ("metrics.csv", "checkpoints", "evaluation.json", "confusion.npz", "samples.npz", "earlier"):
                remove(folder / left)
        for left in ("failure.json", "progress.json"):
            remove(folder / left)
        write(folder / "stage.yaml", stage_config(cell, store))
        write_json(folder / "cell.json", {**cell.content, "label": cell.label, "hashed": hashed_content(cell.config)})
        command = [sys.executable, "-m", "src.studies.stage", str(folder), cell.stage, str(os.getpid())]
        with (folder / "log.txt").open("ab") as log:
            # Its own session: Ctrl-C reaches it once, from us, and not a second time from the terminal.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
            )
        lock.add(process.pid)
        return cls(cell, folder, process, resumed)

    def ended(self) -> bool:
        """Whether the process is gone; its use of memory and time is then known."""
        if self.process.returncode is None:
            done, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if done:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.usage = usage
        return self.process.returncode is not None

    def conclude(self) -> bool:
        """Writes the cell's numbers, or why there are none; returns whether there are."""
        if self.process.returncode == 0:
            try:
                values = numbers(self.cell, self.folder)
            except (FileNotFoundError, ValueError) as error:
                self._fail(str(error))
                return False
            write_json(self.folder / "provenance.json", self._provenance())
            write_json(
                self.folder / "metrics.json",
                {"cell": self.cell.identity, "config": self.cell.made, "seed": self.cell.seed, "values": values},
            )
            for left in ("stage.yaml", "progress.json"):
                remove(self.folder / left)
            return True
        self._fail(f"exit code {self.process.returncode}")
        return False

    def _fail(self, reason: str) -> None:
        log = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line.rstrip() for line in log if line.strip()][-LOG_LINES:]
        write_json(self.folder / "failure.json", {"title": self.cell.title, "reason": reason, "log": lines})

    def _provenance(self) -> Config:
        # A cell that was interrupted counts its last attempt only; `resumed` says so.
        peak = (self.usage.ru_maxrss if self.usage else 0) * (1 if sys.platform == "darwin" else 1024)
        return {
            **machine(),
            "title": self.cell.title,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_bytes": peak,
            "disk_bytes": sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()),
            "resumed": self.resumed,
        }


def numbers(cell: Cell, folder: Path) -> Config:
    """The numbers of a finished cell.

    Raises:
        FileNotFoundError: if the stage left no result.
    """
    if cell.stage == "evaluate":
        found = read_json(folder / "evaluation.json")
        if found is None:
            raise FileNotFoundError(f"{folder / 'evaluation.json'}: the evaluation ended without writing it")
        return found
    adapter = folder / "adapter.safetensors"
    if not adapter.is_file():
        raise FileNotFoundError(f"{adapter}: the pre-training ended without writing it")
    last = {name: points[-1] for name, points in read_curves(folder / "metrics.csv").items() if points}
    losses = {name: value for name, (_, value) in last.items() if name.startswith("train/loss")}
    return {
        "adapter": tensors_hash(adapter),
        "losses": losses,
        "step": max((step for step, _ in last.values()), default=0),
    }


def tensors_hash(path: Path) -> str:
    """A hash of a safetensors file that does not depend on the order in which its metadata happened to be written."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True)
    return sha256(header.encode() + content[8 + size :]).hexdigest()


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
