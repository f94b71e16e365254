"""Log the scores of an evaluation, and write them to `evaluation.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from src.core.atomic_files import make_folder, write_text
from src.evaluation.confusion import Scores

MEANS = ("miou", "accuracy", "mean_accuracy", "mean_dice", "boundary_miou")  # of all classes; logged by these names


def written_scores(scores: Scores, class_names: list[str]) -> dict[str, Any]:
    """Means and values by class, null if not measurable; `absent` classes are missing in the truth."""
    recall = by_class(scores.class_accuracy, class_names)
    return {
        "miou": number(scores.miou),
        "accuracy": number(scores.accuracy),
        "mean_accuracy": number(scores.mean_accuracy),
        "mean_dice": number(scores.mean_dice),
        "iou": by_class(scores.iou, class_names),
        "class_accuracy": recall,
        "dice": by_class(scores.dice, class_names),
        "absent": [name for name, value in recall.items() if value is None],
        "class_names": class_names,
    }


def log_evaluation(module: LightningModule, stage: str, evaluation: dict[str, Any]) -> None:
    """Log the means and the IoU of each class, and write `evaluation.json` into the run folder.

    Args:
        module: In an evaluation; the values are those of all its ranks already.
        stage: `val` or `test`.
        evaluation: As `written_scores` gives it, and more.
    """
    evaluation = {"stage": stage, "step": module.global_step, **evaluation}
    values = {name: evaluation[name] for name in MEANS if name in evaluation}
    values |= {f"iou/{name}": value for name, value in evaluation["iou"].items()}
    for name, value in values.items():
        if value is not None:  # equal on all ranks already; sync_dist only keeps Lightning from warning
            module.log(f"{stage}/{name}", value, prog_bar=name == "miou", sync_dist=True)
    if module.trainer.is_global_zero:
        text = json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n"
        write_text(make_folder(Path(module.trainer.default_root_dir)) / "evaluation.json", text)


def by_class(values: Tensor, class_names: list[str]) -> dict[str, float | None]:
    """Values `[C]` by class name."""
    return {name: number(value) for name, value in zip(class_names, values.tolist(), strict=True)}


def number(value: float) -> float | None:
    """Return a float as a JSON value, with null for NaN."""
    return None if math.isnan(value) else value
