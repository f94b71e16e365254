"""Record the head whose predictions a folder holds, so that masks of two heads are never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from src.callbacks.run_folder import RunFolder
from src.config.hashing import by_content, digest
from src.core.checkpoint_paths import previous_of
from src.core.file_contents import hash_of_files
from src.core.json_files import read_json

HEAD = "head.json"
DATA = ("size", "evaluation", "percentiles", "range")  # arguments of the data that affect a mask


def head_record(trainer: Trainer, module: LightningModule, data: Any, ids: str | None) -> dict[str, str]:
    """Hashes of the checkpoint, and of the settings of model, data and writer that affect predicted masks.

    Args:
        trainer: Its `RunFolder` knows the checkpoint before it is read, unlike the trainer.
        module: Its inference settings are included; without a checkpoint all its arguments, as those of a probe, which
            fits itself to the training images.
        data: Its arguments `DATA` are included, and the short side to which images are resized.
        ids: As in `PredictionWriter`.
    """
    inference = getattr(module, "inference", None)
    settings = {
        "model": type(module).__qualname__,
        "inference": [type(inference).__qualname__, sorted(map(repr, getattr(inference, "__dict__", {}).items()))],
        "data": [repr(getattr(data, name, None)) for name in DATA],
        "ids": ids,
    }
    short_side = getattr(getattr(data, "transforms", None), "short_side", None)
    if short_side is not None:
        settings["short_side"] = short_side
    configs = [callback.config for callback in trainer.callbacks if isinstance(callback, RunFolder)]  # type: ignore[attr-defined]
    given = [path for config in configs if (path := config.get("ckpt_path"))]
    files = [file for path in given for file in (Path(path), previous_of(path)) if file.is_file()]
    if not files:
        settings["arguments"] = [by_content(config.model.as_dict()) for config in configs]
    return {"checkpoint": hash_of_files(files[:1]), "settings": digest(settings)}


def recorded_head(folder: Path) -> dict[str, Any] | None:
    """The record in a folder of predictions; None if there is no readable one."""
    return read_json(folder / HEAD, {"checkpoint": str, "settings": str})
