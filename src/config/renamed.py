"""Old class paths and keys, read as the new ones with one warning each.

The tree was rearranged after commit 570062c; earlier configurations and command lines keep working. They are translated
before anything is hashed or stored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)

CLASS_PATHS = {
    "src.models.backbone": "src.backbones",
    "src.models.adapters": "src.backbones.adapters",
    "src.models.projection": "src.pretraining.projection_head",
    "src.models.regional": "src.pretraining.regions",
    "src.models.decoders": "src.segmentation.decoders",
    "src.objectives.consistency": "src.pretraining.consistency",
    "src.objectives.targets": "src.pretraining.targets",
    "src.objectives.anchors": "src.pretraining.anchors",
    "src.objectives.udi": "src.pretraining.udi",
    "src.optimisation": "src.pretraining.optimisation",
    "src.inference": "src.segmentation.inference",
    "src.probing": "src.probes.dense_knn",
    "src.classification": "src.probes.classification",
    "src.callbacks.monitor": "src.monitoring.monitor",
    "src.callbacks.guards": "src.monitoring.guards",
    "src.studies.progress": "src.studies.run.progress",
    "datamodules.patch_augmentation": "src.pretraining.patch_augmentation",
    "datamodules.training_transforms": "datamodules.transforms.segmentation",
    "datamodules.class_folders": "datamodules.folder.class_folders",
    "datamodules.on_disk": "datamodules.reading.segmentation_folder",
    "datamodules.paired": "datamodules.reading.paired_folders",
}
DATA_ARGUMENTS = {"job": "task", "workers": "num_workers"}

_OLD_PATH = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, CLASS_PATHS)) + r")(?=(?:\.\w+)*\.[A-Z]\w*)")
_OLD_FLAG = re.compile(r"(--data\.init_args\.)(" + "|".join(DATA_ARGUMENTS) + r")(?=$|=)")
_warned: set[str] = set()


def current(text: str) -> str:
    """Replace old class paths in a text."""

    def new(match: re.Match[str]) -> str:
        _warn(match[1], CLASS_PATHS[match[1]])
        return CLASS_PATHS[match[1]]

    return _OLD_PATH.sub(new, text)


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace old class paths and keys in a command line."""

    def new(match: re.Match[str]) -> str:
        _warn(match[2], DATA_ARGUMENTS[match[2]])
        return match[1] + DATA_ARGUMENTS[match[2]]

    return [_OLD_FLAG.sub(new, current(argument)) for argument in arguments]


def current_config(config: Any) -> Any:
    """Replace old class paths and keys in a configuration, at any depth, also in a study's dotted keys."""
    config = _class_paths(config)
    if isinstance(config, dict):
        _rename_data_arguments(config)
    return config


def _class_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {current(key) if isinstance(key, str) else key: _class_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_class_paths(item) for item in value]
    return current(value) if isinstance(value, str) else value


def _rename_data_arguments(config: dict[str, Any]) -> None:
    """Rename `data.init_args.job` in place, as nested mappings or as one dotted key."""
    for key in list(config):
        value = config[key]
        if isinstance(value, dict):
            _rename_data_arguments(value)
        if key == "data" and isinstance(value, dict) and isinstance(value.get("init_args"), dict):
            _rename(value["init_args"], DATA_ARGUMENTS)
        if isinstance(key, str) and key.startswith("data.init_args."):
            _rename(config, {f"data.init_args.{old}": f"data.init_args.{new}" for old, new in DATA_ARGUMENTS.items()})


def _rename(mapping: dict[str, Any], names: dict[str, str]) -> None:
    for old, new in names.items():
        if old in mapping and new not in mapping:
            _warn(old, new)
            mapping[new] = mapping.pop(old)


def _warn(old: str, new: str) -> None:
    if old not in _warned:
        _warned.add(old)
        logger.warning("%s is now called %s; the old name is still read", old, new)
