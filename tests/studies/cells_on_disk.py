"""A small study in a folder, and results as its cells would leave them: no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from src.core.json_files import write_json
from src.studies.plan.cells import Cell, Store
from src.studies.plan.study import Study

CLASSES = ["sky", "road", "tree"]
PRETRAIN = {
    "trainer": {"max_steps": 4, "default_root_dir": "runs/x", "logger": None},
    "model": {"class_path": "src.pretraining.ContinualPretraining", "init_args": {"seed": 0}},
    "data": {"class_path": "datamodules.scenes.ScenesDataModule", "init_args": {"task": "pretrain", "size": 32}},
}
SEGMENT = {
    "trainer": {"max_epochs": 2},
    "model": {"class_path": "src.segmentation.SemanticSegmentation", "init_args": {"lr": 1e-3}},
    "data": {"class_path": "datamodules.scenes.ScenesDataModule", "init_args": {"task": "segment", "size": 32}},
}


def study_file(folder: Path, **changes: Any) -> Path:
    """A study of two rows, two columns and two seeds, with the yamls that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN))
    (folder / "segment.yaml").write_text(yaml.safe_dump(SEGMENT))
    content = {
        "name": "small",
        "title": "A small study",
        "seeds": [0, 1],
        "pretrain": {"config": str(folder / "pretrain.yaml")},
        "rows": {"frozen": {"label": "Frozen", "pretrain": None}, "glare": {"label": "GLARE"}},
        "columns": {
            "linear": {"label": "Linear", "data": "scenes", "config": str(folder / "segment.yaml")},
            "knn": {
                "label": "30-NN",
                "data": "scenes",
                "config": str(folder / "segment.yaml"),
                "set": {"model.init_args.lr": 0.5},
                "seeded": False,
            },
        },
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def fill(study: Study, store: Store, gain: int = 8, images: int = 12) -> None:
    """Results for every cell: GLARE gets `gain` of 100 pixels more right, seed 1 one more than seed 0."""
    for cell in study.cells.values():
        finish(cell, store, gain, images)


def finish(cell: Cell, store: Store, gain: int = 8, images: int = 12) -> None:
    """The files of one finished cell."""
    folder = store.folder(cell)
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {"adapter": "abc", "losses": {"train/loss": 1.0}, "step": 4}
    if cell.stage == "pretrain":
        rows = [f"{step},{3 - 0.2 * step},{2 - 0.1 * step},{40 + step},41.5" for step in range(5)]
        header = "step,train/loss,train/loss/local,monitor/patch_rank,monitor/patch_rank/frozen"
        (folder / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
        explanation(folder / "explanations")
    else:
        seed = cell.needs.seed if cell.needs else cell.seed
        matrices = confusions(50 + seed + (gain if cell.needs else 0), images)
        names = [f"val/{index}.png" for index in range(images)]
        np.savez_compressed(folder / "confusion.npz", matrices=matrices, names=np.asarray(names))
        total = matrices.sum(0)
        iou = np.diag(total) / (total.sum(0) + total.sum(1) - np.diag(total))
        values = {
            "miou": float(iou.mean()),
            "class_names": CLASSES,
            "iou": dict(zip(CLASSES, iou.tolist(), strict=True)),
        }
        samples(folder / "samples.npz", adapted=cell.needs is not None)
    write_json(folder / "cell.json", {"needs": cell.needs.identity if cell.needs else None})
    write_json(folder / "metrics.json", {"cell": cell.identity, "values": values})
    provenance = {
        "commit": "0123456789ab",
        "hardware": "two cores",
        "python": "3.11",
        "torch": "2.11",
        "lightning": "2.6",
        "timm": "1.0",
        "finished": "2026-01-02T03:04:05+00:00",
        "seconds": 60.0,
        "peak_memory_bytes": 2**30,
        "disk_bytes": 2**20,
        "resumed": False,
    }
    write_json(folder / "provenance.json", provenance)


def confusions(right: int, images: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Matrices [N, 3, 3] in which about `right` of 100 pixels of each class are right, a few more or less by image."""
    matrices = np.zeros((images, 3, 3), dtype=np.int64)
    for index in range(images):
        hits = right + index % 4
        for label in range(3):
            matrices[index, label, label] = hits
            matrices[index, label, (label + 1) % 3] = 100 - hits
    return matrices


def samples(path: Path, adapted: bool, count: int = 2) -> None:
    """Two images of 28×42 with four classes' worth of squares, predicted better when adapted."""
    rng = np.random.default_rng(int(adapted))
    content: dict[str, Any] = {
        "names": np.asarray([f"val/{index}.png" for index in range(count)]),
        "class_names": np.asarray(CLASSES),
        "palette": np.asarray([(90, 140, 220), (120, 110, 110), (60, 150, 60)], dtype=np.uint8),
        "ignore_index": np.asarray(255),
    }
    if adapted:
        content["restored"] = np.asarray(True)
    for index in range(count):
        truth = np.zeros((28, 42), dtype=np.int16)
        truth[14:], truth[:, 30:], truth[:3, :3] = 1, 2, 255
        guess = truth.copy()
        guess[guess == 255] = 0
        guess[rng.random(guess.shape) < (0.05 if adapted else 0.3)] = 1
        content |= {
            f"image{index}": rng.integers(60, 200, size=(28, 42, 3), dtype=np.uint8),
            f"truth{index}": truth,
            f"prediction{index}": guess,
            f"features{index}": rng.normal(size=(8, 2, 3)).astype(np.float16),
        }
    np.savez_compressed(path, **content)


def explanation(folder: Path) -> None:
    """One picture with its texts."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (640, 120), (40, 90, 160)).save(folder / "regions-1.png")
    texts = [{"file": "regions-1.png", "title": "Sampled regions", "spoken": "8 regions of one view"}]
    (folder / "explanations.json").write_text(json.dumps(texts))


def read_json(path: Path) -> Any:
    """A json file."""
    return json.loads(path.read_text())
