"""Outcome of `adapt`: with labelled images, whether it helped; without, whether features are broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from src.backbones.backbone import Backbone
from src.core.atomic_files import write_text
from src.core.errors import MissingFile, UserError
from src.evaluation.dense_structure import dense_structure
from src.evaluation.fair_verdict import FairVerdict
from src.evaluation.paired_interval import paired_interval
from src.evaluation.retention import nothing_left, retention
from src.evaluation.significance import Interval, signed
from src.evaluation.structure_reference import measured_runs, moved_alike
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.monitoring.health_checks import RETAINED
from src.probes.cross_validation import CrossValidatedProbes
from src.probes.fair_comparison import compare

Say = Callable[[str], None]
STRENGTHS = (0.5,)  # between frozen and adapted; each takes as long as the frozen model
ROWS = {"frozen": "Frozen", "averaged": "Frozen, six views averaged", "adapted": "Adapted"}
SCORES = {
    "miou": "Linear mIoU", "whitened_knn": "Whitened 30-NN", "knn": "30-NN", "average_precision": "Average precision",
    "cross_entropy": "Cross-entropy", "matched_miou": "mIoU at matched frequencies",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The verdict on an adapter.

    Attributes:
        word: `helped`, `harmed`, `mixed` or `inconclusive`, by masks; else `broken` or `no sign of harm`.
        sentence: The verdict in words.
        recommended: The model to use.
        images: Number of images behind it.
        changes: Adapted against frozen, by score.
        rows: Scores by row, see `ROWS`; with labelled images only.
        strengths: Scores by strength of the adapter, 0 (frozen) to 1; with labelled images only.
        averaging: As `FairVerdict.averaging`.
    """

    word: str
    sentence: str
    recommended: Literal["adapted", "frozen"]
    images: int
    changes: dict[str, Interval]
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    strengths: dict[float, dict[str, float]] = field(default_factory=dict)
    averaging: str = "no"

    def save(self, path: Path) -> None:
        """Write JSON atomically."""
        content = {**asdict(self), "strengths": {f"{scale:g}": values for scale, values in self.strengths.items()}}
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read the file of `save`.

        Raises:
            MissingFile: If the file does not exist.
            UserError: If it is another kind of file.
        """
        if not path.is_file():
            raise MissingFile(f"{path}: no such file; `adapt` writes it when it finishes")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["changes"] = {name: Interval(**change) for name, change in content["changes"].items()}
            content["strengths"] = {float(scale): values for scale, values in content["strengths"].items()}
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: expected the verdict of `adapt`, found {error}; delete it to compute it again"
            ) from error


def by_masks(backbone: Backbone, adapter: Path, probes: CrossValidatedProbes, say: Say) -> Outcome:
    """Compare adapted with frozen features under the fair probes of docs/method.md, section 11, cross-validated.

    Args:
        backbone: With the file's adapter installed, as afterwards.
        adapter: The file.
        probes: Probes of labelled images, which are both fitted and scored.
        say: Reports progress.

    Raises:
        UserError: If the images have no labelled pixels.
    """
    device = backbone.mean.device
    maps = partial(_maps, backbone)
    say(f"comparing with the frozen model on {len(probes.images)} labelled images, {len(probes.folds)} folds")
    with backbone.adapters_off():
        frozen = probes.measure(maps, device)
        averaged = probes.measure(TestTimeAveraging(maps, backbone.patch_size), device)
    adapted = probes.measure(maps, device)
    changes, verdict = compare(frozen, [adapted], averaged)
    strengths = {0.0: frozen.values()}
    for scale in STRENGTHS:
        backbone.load_adapter(adapter, scale)
        strengths[scale] = probes.measure(maps, device).values()
    backbone.load_adapter(adapter)
    rows = {"frozen": frozen.values(), "averaged": averaged.values(), "adapted": adapted.values()}
    return Outcome(
        verdict.word,
        verdict_sentence(verdict),
        "adapted" if verdict.word == "helped" else "frozen",
        len(probes.images),
        changes,
        rows,
        {**strengths, 1.0: adapted.values()},
        verdict.averaging,
    )


def verdict_sentence(verdict: FairVerdict) -> str:
    """The verdict, with the model to use."""
    text = verdict.sentence()
    if verdict.word == "harmed":
        return f"{text} The adapter is worse than the frozen model: use the frozen model."
    return text if verdict.word == "helped" else f"{text} Use the frozen model unless more labelled images show a gain."


@torch.no_grad()
def without_labels(backbone: Backbone, images: Tensor, held_out: bool) -> Outcome:
    """Compare adapted with frozen features without labels, which can only reveal that they are broken.

    They are if little of the frozen features can be recovered from them (`evaluation/retention.py`). Their dense
    structure is compared with that of measured runs.

    Args:
        backbone: With the adapter installed.
        images: uint8 `[N, 3, H, W]`, sides multiples of the patch size.
        held_out: True if the adapter was not trained on them.
    """
    with backbone.adapters_off():
        before = patches(backbone, images)
    after = patches(backbone, images)
    whole, kept = retention(before, before), retention(before, after)
    lost = paired_interval([whole], [kept])
    word = "broken" if nothing_left(whole.value() + lost.high, whole.value(), RETAINED) else "no sign of harm"
    frozen, adapted = dense_structure(before), dense_structure(after)
    change = paired_interval([frozen.statistic()], [adapted.statistic()])
    of = f"{len(images)} {'held-out images' if held_out else 'images, all seen in training'}"
    numbers = f"retention of the frozen features {whole.value():.2f} → {kept.value():.2f}"
    moved = f"Dense structure {frozen.value:.2f} → {adapted.value:.2f}, {signed(change.difference, 2)}"
    interval = f"95 % interval {signed(change.low, 2)} to {signed(change.high, 2)} over {of}"
    meaning = (
        "Use the frozen model."
        if word == "broken"
        else "Without masks nothing more can be known: label ten images or more and give --masks."
    )
    alike = moved_alike(change.difference, measured_runs())
    sentence = f"{word[:1].upper()}{word[1:]}: {numbers}. {moved} ({interval}). {alike} {meaning}"
    recommended: Literal["adapted", "frozen"] = "frozen" if word == "broken" else "adapted"
    return Outcome(word, sentence, recommended, len(images), {"structure": change, "retention": lost})


def patches(backbone: Backbone, images: Tensor) -> Tensor:
    """Patch features `[N, P, D]`, a few images at a time, float32 on the CPU."""
    device = backbone.mean.device
    return torch.cat([backbone(part.to(device)).patches.float().cpu() for part in images.split(8)])


def _maps(backbone: Backbone, images: Tensor) -> Tensor:
    return backbone.feature_maps(images)[-1]
