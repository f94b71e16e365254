"""A study of seconds, with real stages: frozen and adapted, a linear head, on a tiny ViT and tiny scenes.

python -m tests.cluster.tiny_study FOLDER [STEPS]     # writes FOLDER/tiny.yaml and the files that it names
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import yaml

from tests.command_line import SCENES, pretraining, segmentation

BACKBONE = "model.init_args.backbone.init_args"


def tiny_study(folder: Path, seeds: Sequence[int] = (3,), steps: int = 40, every: int = 2, **content: Any) -> Path:
    """Write the study; `content` replaces or adds keys of it."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    weights = folder / "test_vit.pth"
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    (folder / "pretrain.yaml").write_text(
        yaml.safe_dump(pretraining(folder / "unused", max_steps=steps, log_every_n_steps=4))
    )
    (folder / "segment.yaml").write_text(yaml.safe_dump(segmentation(folder / "unused", max_epochs=2, max_steps=-1)))
    data = {f"data.init_args.{key}": value for key, value in SCENES["init_args"].items()}
    weighted = {f"{BACKBONE}.name": "test_vit", f"{BACKBONE}.weights": str(weights)}
    study = {
        "name": "tiny",
        "title": "Frozen against adapted",
        "seeds": list(seeds),
        "pretrain": {
            "config": str(folder / "pretrain.yaml"),
            "set": {**weighted, "checkpoint.every_n_steps": every, "checkpoint.min_seconds": 0.0},
        },
        "evaluate": {"set": {**data, **weighted, "trainer.limit_val_batches": 0}},
        "rows": {"frozen": {"label": "Frozen", "pretrain": None}, "glare": {"label": "GLARE"}},
        "columns": {"linear": {"label": "Linear", "data": "scenes", "config": str(folder / "segment.yaml")}},
        **content,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


if __name__ == "__main__":
    print(tiny_study(Path(sys.argv[1]), range(1), steps=int(sys.argv[2]) if len(sys.argv) > 2 else 150, every=10))
