"""Record the head whose predictions a folder holds, so that masks of two heads are never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from src.callbacks.run_folder import RunFolder
from src.config.hashing import digest
from src.core.checkpoint_paths import previous_of
from src.core.file_contents import hash_of_files
from src.core.json_files import read_json

HEAD = "head.json"
DATA = ("size", "evaluation", "percentiles", "range")  # arguments of the data that affect a mask


def head_record(trainer: Trainer, module: LightningModule, data: Any, ids: str | None) -> dict[str, str]:
    """Hashes of the checkpoint, and of the settings of model, data and writer that affect predicted masks.

    Args:
        trainer: Its `RunFolder` knows the checkpoint before it is read, unlike the trainer.
        module: Its inference settings are included.
        data: Its arguments `DATA` are included.
        ids: As in `PredictionWriter`.
    """
    inference = getattr(module, "inference", None)
    settings = {
        "model": type(module).__qualname__,
        "inference": [type(inference).__qualname__, sorted(map(repr, getattr(inference, "__dict__", {}).items()))],
        "data": [repr(getattr(data, name, None)) for name in DATA],
        "ids": ids,
    }
    given = [callback.config.get("ckpt_path") for callback in trainer.callbacks if isinstance(callback, RunFolder)]  # type: ignore[attr-defined]
    files = [file for path in given if path for file in (Path(path), previous_of(path)) if file.is_file()]
    return {"checkpoint": hash_of_files(files[:1]), "settings": digest(settings)}


def recorded_head(folder: Path) -> dict[str, Any] | None:
    """The record in a folder of predictions; None if there is no readable one."""
    return read_json(folder / HEAD, {"checkpoint": str, "settings": str})
