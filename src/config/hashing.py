"""Hashes of configurations and of other content that JSON can hold."""

import hashlib
import json
from typing import Any

from src.config.composition import Config

# What may change without changing a number. A key ends here with all that lies below it.
WITHOUT_EFFECT = (
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "ckpt_path",
    "data.init_args.root",
    "data.init_args.num_workers",
    "data.init_args.pin_memory",
    "data.init_args.persistent_workers",
    "data.init_args.prefetch_factor",
)


def without_effect(config: Config) -> Config:
    """A copy of `config` that keeps only what decides a result."""

    def kept(place: Any, prefix: str) -> Any:
        if not isinstance(place, dict):
            return place
        return {
            key: kept(value, f"{prefix}{key}.")
            for key, value in place.items()
            if f"{prefix}{key}" not in WITHOUT_EFFECT
        }

    return dict(kept(config, ""))


def digest(content: Any, length: int = 16) -> str:
    """Return a hash of anything that JSON can hold, the same for the same content in any order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
