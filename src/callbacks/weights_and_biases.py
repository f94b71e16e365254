"""Log to Weights & Biases, with or without account and network, with the lineage from adapter to segmentation."""

import configparser
import hashlib
import json
import os
import socket
import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.backbones.adapter_file import read_metadata
from src.core.atomic_files import write_text

OFFLINE = ("offline", "dryrun")  # wandb's modes that only write files


class Wandb(WandbLogger):
    """Weights & Biases: ``--trainer.logger Wandb``.

    Offline without an account or network; ``wandb sync`` sends such a run later. The run's id is kept in
    ``<run folder>/wandb_id.txt``, so that a resumed fit, and a test after it, continue the same run. At the end of a
    run its adapter becomes an artifact, its pictures images and its evaluation a table; a run with an adapter file
    declares it as used, by the file's hash, which is the artifact's name, and by the id of the run that made it.

    Args:
        project: name of the project.
        name: name of the run; the run folder's by default.
        group: group of the run, such as a study; the environment's WANDB_RUN_GROUP by default.
        offline: True or False, or None to go online only if an account is set up and the server answers.
            wandb's own switches come first: `WANDB_MODE`, `wandb offline` and `wandb disabled`.
    """

    def __init__(
        self, project: str = "glare", name: str | None = None, group: str | None = None, offline: bool | None = None
    ) -> None:
        self._chosen_project, self._chosen_name = project, name
        self._chosen_group, self._chosen_offline = group, offline
        self._folder: Path | None = None
        super().__init__(project=project, offline=True)

    def attach(self, run_folder: Path, fresh: bool) -> None:
        """Continue the run whose id is in `run_folder`, or start one; for a sweep agent's process, the agent's."""
        id_file = run_folder / "wandb_id.txt"
        given = os.environ.get("WANDB_RUN_ID")
        if (given or fresh or not id_file.exists()) and getattr(rank_zero_only, "rank", 0) == 0:
            run_folder.mkdir(parents=True, exist_ok=True)
            write_text(id_file, given or uuid.uuid4().hex[:8])
        mode = switched()
        offline = mode != "disabled" and (mode in OFFLINE or self._offline_by_choice())
        # set explicitly, since wandb reads the environment once, perhaps before Lightning changes it
        said: dict[str, Any] = {"mode": "offline"} if offline else {"mode": mode} if mode == "disabled" else {}
        super().__init__(
            project=self._chosen_project,
            name=self._chosen_name or run_folder.name,
            save_dir=run_folder,
            id=id_file.read_text().strip() if id_file.exists() else None,
            offline=offline,
            group=self._chosen_group or os.environ.get("WANDB_RUN_GROUP"),
            **said,
        )
        self._folder = run_folder

    def _offline_by_choice(self) -> bool:
        return not reachable() if self._chosen_offline is None else self._chosen_offline

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log them; the adapter in a configuration is declared as used."""
        super().log_hyperparams(params)
        for file in used_adapters(params if isinstance(params, dict) else vars(params)):
            artifact = adapter_artifact(file)
            if not self._offline:
                self.experiment.use_artifact(artifact)
            else:  # without the server there is no such link, so the same facts go to the configuration
                self.experiment.config.update({"used_adapter": artifact.metadata}, allow_val_change=True)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Upload the run folder's results at the end of a run."""
        super().finalize(status)
        if status != "success" or self._folder is None or self._experiment is None:
            return
        if (adapter := self._folder / "adapter.safetensors").is_file():
            self.experiment.log_artifact(adapter_artifact(adapter))
        import wandb  # only needed with its logger

        pictures = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in sorted(self._folder.glob("*.png"))}
        tables = {}
        if (evaluation := self._folder / "evaluation.json").is_file():
            columns, rows = by_class(json.loads(evaluation.read_text(encoding="utf-8")))
            tables["evaluation"] = wandb.Table(columns=list(columns), data=rows)
        if pictures or tables:
            self.experiment.log({**pictures, **tables})


def used_adapters(config: Any) -> Iterator[Path]:
    """The adapter files of a configuration's backbones."""
    if isinstance(config, dict):
        arguments = config.get("init_args")
        if isinstance(arguments, dict) and "Backbone" in str(config.get("class_path")) and arguments.get("adapter"):
            yield Path(arguments["adapter"])
        for value in config.values():
            yield from used_adapters(value)


def adapter_artifact(file: Path) -> Any:
    """An adapter file as an artifact, which is the same for the same file in any run.

    Raises:
        FileNotFoundError, ValueError: if it is not an adapter file.
    """
    known = read_metadata(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    run = file.with_name("wandb_id.txt")
    maker = {"run": run.read_text().strip()} if run.is_file() else {}
    metadata = {**known, "sha256": digest, "file": str(file), **maker}
    import wandb  # only needed with its logger

    artifact = wandb.Artifact(f"adapter-{digest[:12]}", type="adapter", metadata=metadata)
    artifact.add_file(str(file), name="adapter.safetensors")
    return artifact


def by_class(evaluation: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of an evaluation.json: one row per class, in the order of the classes."""
    iou, accuracy = evaluation["iou"], evaluation["class_accuracy"]
    rows = [[name, iou[name], accuracy[name]] for name in evaluation["class_names"]]
    return ["class", f"{evaluation['stage']}/iou", f"{evaluation['stage']}/accuracy"], rows


def reachable() -> bool:
    """Return True if wandb is not switched off, an account is set up and its server answers within three seconds."""
    if switched() in (*OFFLINE, "disabled"):
        return False
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    try:
        known = netrc().authenticators(server.hostname or "") is not None
    except (OSError, NetrcParseError):
        known = False
    if not (known or os.environ.get("WANDB_API_KEY")):
        return False
    try:
        socket.create_connection((server.hostname or "", server.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def switched() -> str:
    """Return wandb's own switch: WANDB_MODE, else the setting of `wandb offline` or `wandb disabled`, else `online`."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    everywhere = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    here = Path(os.environ.get("WANDB_DIR") or "") / "wandb"
    saved = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, OSError, UnicodeError):  # wandb itself warns about a damaged file
        saved.read([everywhere / "settings", here / "settings"], encoding="utf-8")
    return saved.get("default", "mode", fallback="online")
