"""Check at the start that all processes see the same run folder and data."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from src.core.errors import UserError


class Seen(NamedTuple):
    """View of one process."""

    rank: int
    host: str
    folder: bool  # the file that rank 0 has just written to the run folder
    data: str | None  # fingerprint of the images that it would read, if the data have one


class SharedFiles(Callback):
    """Compares run folder and data over all processes, if there are several."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare.

        Raises:
            UserError: With the processes that differ.
        """
        if trainer.world_size == 1 or not distributed.is_initialized():
            return
        folder = Path(trainer.default_root_dir)
        marker = folder / trainer.strategy.broadcast(f".shared-{uuid.uuid4().hex}")
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            marker.touch()
        trainer.strategy.barrier("run folder written")
        data = trainer.datamodule  # type: ignore[attr-defined]
        data = getattr(data, "inner", data)  # of cached features
        own = Seen(
            trainer.global_rank,
            socket.gethostname(),
            marker.exists(),
            data.fingerprint() if hasattr(data, "fingerprint") else None,
        )
        every: list[Seen] = [own] * trainer.world_size
        distributed.all_gather_object(every, own)
        if trainer.is_global_zero:
            marker.unlink()
        if fault := difference(every, folder):
            raise UserError(fault)


def difference(seen: list[Seen], folder: Path) -> str | None:
    """Describe how processes differ from the first one; None if they agree."""
    if without := [each for each in seen if not each.folder]:
        return (
            f"{folder}: expected a run folder that all processes share, found that {_named(without)} cannot see what "
            "rank 0 writes there; name a folder on a shared disk (trainer.default_root_dir)"
        )
    if other := [each for each in seen if each.data != seen[0].data]:
        return (
            f"expected the same images in all processes, found {seen[0].data} on {seen[0].host} and {other[0].data} in "
            f"{_named(other)}; let data.init_args.root be a shared folder, or copies that hold the same files"
        )
    return None


def _named(seen: list[Seen]) -> str:
    return ", ".join(f"rank {each.rank} ({each.host})" for each in seen)
