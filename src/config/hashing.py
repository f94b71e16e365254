"""The hash of a configuration, over everything that affects a run's result."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from src.config.composition import Config
from src.config.defaults import completed
from src.core.errors import MissingFile

# Keys, with everything below them, that do not affect results, and seeds, which are stored next to the hash.
WITHOUT_EFFECT = (
    "seed_everything",
    "model.init_args.seed",
    "data.init_args.seed",
    "model.init_args.backbone.init_args.trust",  # permission to import, without effect on results
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.enable_autolog_hparams",
    "trainer.model_registry",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "checkpoint",
    "predictions",
    "ckpt_path",
    "weights_only",
    "return_predictions",
    "verbose",
    "data.init_args.root",
    "data.init_args.num_workers",
    "data.init_args.pin_memory",
    "data.init_args.persistent_workers",
    "data.init_args.prefetch_factor",
)
WATCHING = ("src.studies.run.progress.StageProgress",)  # callbacks without effect on results


def config_hash(config: Config) -> str:
    """Return a hash of everything that affects a run's result except machine and seed."""
    return digest(resolved(config))


def resolved(config: Config) -> Config:
    """Return the part of a configuration that affects a run's result: with defaults, without seeds and irrelevant keys.

    Files are identified by content. `batch_size` is global, so the number of processes has no effect.

    Args:
        config: A yaml's content, or the complete configuration in a run folder, with the same result.

    Raises:
        UserError: If a class of this project does not exist.
    """
    whole = completed(without_effect(config))
    trainer = whole["trainer"]
    if trainer["precision"] in (None, 32, "32"):
        trainer["precision"] = "32-true"
    data = whole.get("data", {}).get("init_args", {})
    if data.get("copies") is not None:
        data["copies"] = True  # downscaled images; the place of the copies, and which exist already, have no effect
    callbacks = trainer["callbacks"] if isinstance(trainer["callbacks"], list) else []
    trainer["callbacks"] = [item for item in callbacks if class_of(item) not in WATCHING]
    return dict(by_content(without_effect(whole)))


def class_of(item: Any) -> Any:
    """Return the class path of an object in a configuration, or None."""
    return item.get("class_path") if isinstance(item, dict) else None


def without_effect(config: Config) -> Config:
    """Return a copy of `config` with only the keys that affect a result."""

    def kept(place: Any, prefix: str) -> Any:
        if not isinstance(place, dict):
            return place
        return {
            key: kept(value, f"{prefix}{key}.")
            for key, value in place.items()
            if f"{prefix}{key}" not in WITHOUT_EFFECT
        }

    return dict(kept(config, ""))


def by_content(value: Any) -> Any:
    """Return `value` with each path of a file or folder replaced by a hash of its content."""
    if isinstance(value, dict):
        return {key: by_content(item) for key, item in value.items()}
    if isinstance(value, list):
        return [by_content(item) for item in value]
    if isinstance(value, str) and (os.sep in value or "." in value):
        path = Path(os.path.expandvars(value)).expanduser()
        if path.is_file():
            return f"sha256:{file_hash(path)}"
        if os.sep in value and path.is_dir():
            return f"folder:{manifest(path)}"
    return value


@cache
def manifest(folder: Path) -> str:
    """Return a hash of the names and sizes of all files below a folder, without hidden ones.

    Contents are left out: reading a hundred gigabytes would take longer than the study.

    Raises:
        MissingFile: If there is no such folder.
    """
    if not folder.is_dir():
        raise MissingFile(f"{folder}: no such data folder. Is DATA_ROOT set to the folder that holds the data sets?")
    files = sorted(
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )
    return digest(files)


@cache
def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(content: Any, length: int = 16) -> str:
    """Return a hash of a JSON value, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
