"""Start a cell in a process, and collect its outcome."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from src.config.composition import Config, lookup, override
from src.config.defaults import OURS, defaults
from src.config.hashing import class_of
from src.config.yaml_reader import write
from src.core.atomic_files import make_folder
from src.core.checkpoint_paths import checkpoint_exists
from src.core.import_path import for_children
from src.core.json_files import write_json
from src.core.process_lock import Lock
from src.studies.plan.cells import Cell, Store, finished, hashed_content

STAGE = (sys.executable, "-m", "src.studies.run.stage")
# SLURM warns every process of a job by a signal; only the runner, which then interrupts the stage, should hear it.
BEHIND_USER_SIGNALS = ("/bin/sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh") if os.name == "posix" else ()
LOG_LINES = 12  # of a failed cell that a table's footer shows
RESULTS = (
    "metrics.csv", "checkpoints", "adapter.safetensors", "adapter-best.safetensors", "guards.json",
    "evaluation.json", "confusion.npz", "samples.npz",
)  # fmt: skip


# The environment of a stage decides on no process group: SLURM's own would want one task for each process.
ENVIRONMENT = {"class_path": "lightning.pytorch.plugins.environments.LightningEnvironment"}


def stage_config(cell: Cell, store: Store, processes: int = 1, nodes: int = 1) -> Config:
    """The configuration that a cell's process gets: the study's, its seed, its run folder, and the adapter it needs.

    Args:
        cell: The cell.
        store: Where it is.
        processes: Processes on each node that train together (DDP), where there are several; what the study says for 1.
        nodes: Nodes.
    """
    callbacks = lookup(cell.config, "trainer.callbacks") or []
    changes: Config = {
        "seed_everything": cell.seed,
        "trainer.default_root_dir": str(store.folder(cell)),
        "trainer.enable_progress_bar": False,
        "trainer.enable_model_summary": False,
        "trainer.callbacks": [*callbacks, {"class_path": "src.studies.run.progress.StageProgress"}],
    }
    for part in ("model", "data"):
        if "seed" in defaults(str(lookup(cell.config, f"{part}.class_path", ""))):
            changes[f"{part}.init_args.seed"] = cell.seed
    if cell.needs is not None:
        adapter = store.folder(cell.needs) / "adapter.safetensors"
        changes["model.init_args.backbone.init_args.adapter"] = str(adapter)
        if trusted := own_packages(cell.needs.config):
            changes["model.init_args.backbone.init_args.trust"] = trusted
    if processes > 1 or nodes > 1:
        plugins = lookup(cell.config, "trainer.plugins") or []
        changes["trainer.plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), ENVIRONMENT]
        changes["trainer.devices"] = processes if processes > 1 else lookup(cell.config, "trainer.devices", 1)
        changes["trainer.num_nodes"] = nodes
    return override(cell.config, changes)


def own_packages(config: Config) -> list[str]:
    """Return the package of a pre-training's adapter if it is not of this project: the study names it, so trusts it."""
    kind = class_of(lookup(config, "model.init_args.adapter"))
    package = str(kind or "").partition(".")[0]
    return [package] if package and package not in OURS else []


@dataclass
class Running:
    """A cell's process."""

    cell: Cell
    folder: Path
    process: subprocess.Popen[bytes]
    resumed: bool  # there is a checkpoint; the step is known once the process has read it
    told: bool = False
    started: float = field(default_factory=time.time)

    @classmethod
    def start(
        cls,
        cell: Cell,
        store: Store,
        lock: Lock,
        environment: Mapping[str, str],
        processes: int = 1,
        nodes: int = 1,
    ) -> "Running":
        """Starts the cell's process, from its last checkpoint where an earlier process left one.

        Args:
            cell: The cell.
            store: Where it is.
            lock: The lock under which the process works.
            environment: Of the process.
            processes: Processes on each node that train together.
            nodes: Nodes; on each of the others, `src.studies.run.job` starts the processes.
        """
        folder = store.folder(cell)
        resumed = checkpoint_exists(folder / "checkpoints" / "last.ckpt")
        for left in ("metrics.json", "failure.json", "progress.json", *(() if resumed else RESULTS)):
            remove(folder / left)
        write(folder / "stage.yaml", stage_config(cell, store, processes, nodes))
        write_json(
            folder / "cell.json",
            {
                **cell.content,
                "cell": cell.identity,
                "title": cell.title,
                "hashed": hashed_content(cell.config),
            },
        )
        process = stage_process(folder, cell.stage, environment)
        lock.add(process.pid)
        return cls(cell, folder, process, resumed)

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def conclude(self) -> bool:
        """Return whether the cell's numbers are complete; if not, save the end of its log."""
        if finished(self.folder):
            for left in ("stage.yaml", "progress.json"):
                remove(self.folder / left)
            return True
        try:
            log = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            make_folder(self.folder)
            log = [f"{self.folder} was deleted while the stage ran"]
        lines = [line.rstrip() for line in log if line.strip()][-LOG_LINES:]
        reason = f"exit code {self.process.returncode}"
        write_json(self.folder / "failure.json", {"title": self.cell.title, "reason": reason, "log": lines})
        return False


def stage_process(folder: Path, stage: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the process of a cell whose folder is ready; it writes to `log.txt`."""
    command = [*BEHIND_USER_SIGNALS, *STAGE, str(folder), stage, str(os.getpid())]
    with (folder / "log.txt").open("ab") as log:
        # Its own session, so that Ctrl-C reaches it once, from this process, and not also from the terminal.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=for_children(environment),
            start_new_session=True,
        )


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
