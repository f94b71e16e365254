"""Configurations as plain dictionaries: read, override by dotted key, and reduce to what decides a result."""

import hashlib
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from src.config.renamed import current_config
from src.core.errors import MissingFile, UserError

Config = dict[str, Any]


class Loader(yaml.SafeLoader):
    """YAML 1.1 with floats as people write them: `5e-4` is a number, not a word."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN)$"
    ),
    list("-+0123456789."),
)

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


def read(path: Path) -> Config:
    """The mapping in a yaml file.

    Raises:
        MissingFile: if there is no such file.
        UserError: if it is not yaml, or not a mapping.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such file. Configurations lie in experiments/")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a mapping of keys to values, found {type(content).__name__}")
    return dict(current_config(content))


def write(path: Path, config: Config) -> None:
    """Writes a mapping as yaml, keys in their own order."""
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def override(config: Config, changes: Config) -> Config:
    """A copy of `config` with each dotted key of `changes` set; dictionaries on the way are made where they lack."""
    result = deepcopy(config)
    for dotted, value in changes.items():
        place = result
        *parents, last = dotted.split(".")
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = deepcopy(value)
    return result


def laid_over(below: Config, above: Config) -> Config:
    """A copy of `below` with the keys of `above`, mapping by mapping; other values are replaced."""
    result = deepcopy(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = laid_over(result[key], value) if both else deepcopy(value)
    return result


def lookup(config: Config, dotted: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default`."""
    place: Any = config
    for part in dotted.split("."):
        if not isinstance(place, dict) or part not in place:
            return default
        place = place[part]
    return place


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
    """A hash of anything that JSON can hold, the same for the same content in any order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
