"""``python -m src evidence DATA --weights WEIGHTS``: frozen, averaged, GLARE and calibrated, three seeds, one JSON."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.backbones.backbone import Backbone, load_backbone
from src.cli import main as run
from src.commands import parsers
from src.commands.adapt.request import base, prepared, resumption
from src.commands.adapt.settings import METHODS, Method, choose, multiple
from src.config.composition import Config, override
from src.config.environment import expand_environment
from src.config.prerequisites import check_writable
from src.config.yaml_reader import read
from src.core.atomic_files import write_text
from src.core.bfloat16 import processor_flags
from src.core.errors import UserError
from src.core.file_contents import content_fingerprint
from src.core.import_path import HOME
from src.core.json_files import read_json
from src.core.names import path_part
from src.evaluation.confusion import ImageConfusions
from src.evaluation.probe_scores import ProbeScores
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.probes.fair_comparison import FairProbes, LabelledImage, Row, compare
from src.studies.run.machine import commit

IMAGES = 400  # most images of a split (our choice)
FORMAT = 1  # version of the JSON's format


def main(arguments: Sequence[str]) -> None:
    """Measure each missing row, and write `evidence.json`.

    Raises:
        CommandLineError: If an option is wrong.
        MissingFile, UserError: With the data or weights that cannot be used.
        KeyboardInterrupt: After Ctrl-C; the same command resumes.
    """
    options = parsers.evidence().parse_args(list(arguments))
    data = data_config(options.data)
    name = Path(options.data).name
    out: Path = options.out or Path("runs") / path_part(f"evidence-{name}-{options.backbone}", "folder of the evidence")
    check_writable(out, "--out")
    backbone = load_backbone(options.backbone, options.weights)
    labelled = labelled_data(data, backbone.patch_size)
    asked = {
        "data": data, "backbone": options.backbone, "weights": options.weights, "hash": backbone.weight_hash,
        "max_steps": options.max_steps,
        "contents": [content_fingerprint(labelled.source(split)) for split in ("train", "val")],
    }  # fmt: skip
    prepared(out, asked, "evidence.yaml")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    probes = probes_of(labelled)
    maps = partial(_maps, backbone.to(device))
    frozen = kept(out / "rows" / "frozen", lambda: probes.measure(maps, device))
    averaged = kept(
        out / "rows" / "averaged", lambda: probes.measure(TestTimeAveraging(maps, backbone.patch_size), device)
    )
    configs = {  # written first, so that a finished row of other settings is refused, not read
        (method, seed): configured(method, seed, options, data, out, probes)
        for method in options.methods
        for seed in options.seeds
    }
    rows = {
        method: [kept(out / "rows" / f"{method}-{seed}", partial(adapted, configs[method, seed], options, probes))
                 for seed in options.seeds]
        for method in options.methods
    }  # fmt: skip
    content = evidence(frozen, averaged, rows)
    for method, judged in content["methods"].items():
        judged["stopped"] = [stopped(out / "runs" / f"{method}-{seed}") for seed in options.seeds]
    content |= {
        "format": FORMAT, "data": name, "backbone": options.backbone, "weight_hash": backbone.weight_hash,
        "weights": options.weights if not Path(options.weights).exists() else "a file", "seeds": options.seeds,
        "training_images": len(probes.training), "evaluation_images": len(probes.evaluation),
        "classes": probes.num_classes, "torch": torch.__version__, "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU", "max_steps": options.max_steps,
        "commit": commit(),
    }  # fmt: skip
    write_text(out / "evidence.json", json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    for method, judged in content["methods"].items():
        print(f"{METHODS[method]}: {judged['sentence']}")
        for seed, why in zip(options.seeds, judged["stopped"], strict=True):
            if why is not None:
                print(f"{METHODS[method]}, seed {seed}: {why}; its adapter of the last good check is scored")
    print(f"{out / 'evidence.json'}: docs/evidence.md says where to send it")


def data_config(data: str) -> Config:
    """Class path and arguments for the name of a data set, or for a folder.

    Raises:
        UserError: If it is neither.
    """
    file = HOME / "experiments" / "protocols" / f"{data}.yaml"
    if data != "folder" and "/" not in data and file.is_file():
        found = expand_environment(read(file)["data"], "data")
    elif Path(data).is_dir():
        found = read(HOME / "experiments" / "protocols" / "folder.yaml")["data"]
        found["init_args"]["root"] = str(Path(data).resolve())
    else:
        names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml") if path.stem != "folder"))
        raise UserError(f"{data}: expected a folder of images with masks, or one of {names}; found neither")
    return dict(found)


def labelled_data(data: Config, patch: int) -> Any:
    """Build the data module, with image sides that are multiples of the patch size."""
    module, _, name = data["class_path"].rpartition(".")
    arguments = {key: value for key, value in data["init_args"].items() if key not in ("transforms", "evaluation")}
    size = arguments.get("size", 252)
    sides = [multiple(side, patch) for side in ([size, size] if isinstance(size, int) else size)]
    return getattr(import_module(module), name)(
        **{**arguments, "task": "segment", "size": tuple(sides), "cache": False}
    )


def probes_of(data: Any) -> FairProbes:
    """Fair probes fitted to the training images and scored on the validation images."""
    splits = []
    for split in ("train", "val"):
        pairs = data.ordered_dataloader(split).dataset
        places = np.linspace(0, len(pairs) - 1, min(IMAGES, len(pairs))).round().astype(int).tolist()
        samples = [pairs[place] for place in places]
        splits.append([LabelledImage(one.sample, one.name, one.image, one.mask) for one in samples])
    training, evaluation = splits
    return FairProbes(training, evaluation, data.num_classes, data.ignore_index)


def configured(method: Method, seed: int, options: Any, data: Config, out: Path, probes: FairProbes) -> Path:
    """Write the configuration that `adapt` would choose for one method and seed, to the folder of its run.

    Raises:
        UserError: If the folder holds a run with other settings, as of another version of the preset.
    """
    folder = out / "runs" / f"{method}-{seed}"
    config = read(base(method))
    sizes = ("size", "batch_size", "transforms", "evaluation", "task")
    arguments = {key: value for key, value in data["init_args"].items() if key not in sizes}
    config["data"] = {"class_path": data["class_path"], "init_args": {**arguments, "task": "pretrain"}}
    used = math.sqrt(math.prod(probes.training[0].image.shape[-2:]))
    settings = choose(
        len(probes.training), torch.cuda.is_available(), options.backbone, processor_flags(), method, used
    )
    changes: Config = {
        **settings.changes(),
        "seed_everything": seed,
        "trainer.default_root_dir": str(folder),
        "model.init_args.seed": seed,
        "model.init_args.backbone.init_args.name": options.backbone,
        "model.init_args.backbone.init_args.weights": options.weights,
        "data.init_args.seed": seed,
        "monitor.labelled": 0,  # labels do not influence the training
    }
    if options.max_steps is not None:
        changes["trainer.max_steps"] = options.max_steps
    return prepared(folder, override(config, changes))


def adapted(config: Path, options: Any, probes: FairProbes) -> Row:
    """Adapt as configured, and measure."""
    folder = config.parent
    run(["fit", "--config", str(config), *resumption(folder)])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = load_backbone(options.backbone, options.weights, str(folder / "adapter.safetensors")).to(device)
    return probes.measure(partial(_maps, backbone), device)


def stopped(run_folder: Path) -> str | None:
    """Why a guard stopped a run, if one did."""
    found = read_json(run_folder / "guards.json")
    return None if found is None else found["stopped"]


def kept(folder: Path, measure: Callable[[], Row]) -> Row:
    """Read a row from its folder, or measure and write it; `whole` is written last."""
    files = (folder / "probe.npz", folder / "neighbours.npz", folder / "whitened.npz")
    if (folder / "whole").is_file():
        return Row(ProbeScores.load(files[0]), *map(ImageConfusions.load, files[1:]))
    row = measure()
    row.probe.save(files[0])
    row.neighbours.save(files[1])
    row.whitened_neighbours.save(files[2])
    write_text(folder / "whole", "")
    return row


def evidence(frozen: Row, averaged: Row, rows: dict[Method, list[Row]]) -> dict[str, Any]:
    """Scores of every row, and changes and verdict of every method."""
    methods = {}
    for method, some in rows.items():
        changes, verdict = compare(frozen, some, averaged)
        methods[method] = {
            "scores": [row.values() for row in some],
            "changes": {name: asdict(change) for name, change in changes.items()},
            "word": verdict.word,
            "sentence": verdict.sentence(),
            "averaging": verdict.averaging,
        }
    return {"frozen": frozen.values(), "averaged": averaged.values(), "methods": methods}


def _maps(backbone: Backbone, images: Tensor) -> Tensor:
    return backbone.feature_maps(images)[-1]
