"""Model card of an adapter, in the Hugging Face Hub's format and without local paths."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer

from src.monitoring.guards import Guards
from src.monitoring.monitor import Monitor

_TAGS = ("glare", "continual-pretraining", "self-supervised-learning", "semantic-segmentation", "vision-transformer")
_VERDICT = "## Did it help?\n\n"
_STOPPED = "**Stopped by a guard:**"
_ROWS = {
    "knn": "nearest neighbours of patches, mIoU on held-out images",
    "probe": "ridge probe, mIoU on held-out images",
    "rank/patches": "effective rank of patches",
    "cosine/patches": "cosine of patches to the frozen ones",
    "agreement": "agreement of two views on the same ground",
}


@runtime_checkable
class DescribesAdapter(Protocol):
    """Module that describes its adapter and the weights it was trained on."""

    def adapter_facts(self) -> dict[str, str]:
        """The keys `backbone`, `weights`, `repository`, `licence`, `weight_hash` and `adapter`."""


@dataclass
class ModelCard:
    """Card of one fit, updated with each saved adapter.

    Attributes:
        began: Start of this part of the fit, in seconds of a monotonic clock.
        first_step: Optimiser steps done before it.
    """

    began: float = field(default_factory=time.monotonic)
    first_step: int = 0

    def text(self, trainer: Trainer, facts: Mapping[str, str]) -> str:
        """Return the card as Markdown."""
        header = yaml.safe_dump(metadata(facts), sort_keys=False).strip()
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._rows(trainer, facts).items())
        return (
            f"---\n{header}\n---\n\n"
            f"# {facts['backbone']}, adapted by continual pre-training\n\n"
            "A frozen vision transformer with adapters trained on unlabelled images of one domain (GLARE, "
            "arXiv 2509.17816). This repository holds only the adapter; the frozen weights come from their own source "
            f"and keep their own licence.\n\n| | |\n| --- | --- |\n{rows}\n\n"
            f"## Use it\n\n```python\n{loading(facts)}\n```\n\n"
            f"{_VERDICT}{verdict(trainer)}\n"
        )

    def _rows(self, trainer: Trainer, facts: Mapping[str, str]) -> dict[str, str]:
        steps = trainer.global_step - self.first_step
        minutes = (time.monotonic() - self.began) / 60
        earlier = f" (from step {self.first_step}, where it was resumed)" if self.first_step else ""
        return {
            "adapter": facts["adapter"],
            "made on": f"{facts['weights'] or 'weights from a file'} (hash {facts['weight_hash']})",
            "licence of the base": facts["licence"],
            "data": data(trainer),
            "cost": f"{trainer.global_step} optimiser steps; {minutes:.1f} minutes for {steps} of them{earlier} on "
            f"{trainer.world_size} × {device(trainer)}",
            "versions": ", ".join(
                [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in ("torch", "timm"))]
            ),
        }


def card_of(module: LightningModule, trainer: Trainer, card: ModelCard) -> str | None:
    """Return the card of a module's adapter; None if the module does not describe one."""
    return card.text(trainer, module.adapter_facts()) if isinstance(module, DescribesAdapter) else None


def with_verdict(card: str, sentence: str) -> str:
    """Return a card with a verdict before its measurements, replacing an earlier verdict."""
    head, _, rest = card.partition(_VERDICT)
    measured = [part for part in rest.strip().split("\n\n") if part.startswith(("|", _STOPPED))]
    return head + _VERDICT + "\n\n".join([sentence, *measured]) + "\n"


def metadata(facts: Mapping[str, str]) -> dict[str, Any]:
    """The Hub's metadata: base model and its licence, task, tags."""
    base = {"base_model": facts["repository"], "base_model_relation": "adapter"} if facts["repository"] else {}
    kind = facts["adapter"].partition("(")[0].lower()
    return {
        **base,
        "license": facts["licence"],
        "library_name": "glare-lightning",
        "pipeline_tag": "image-feature-extraction",
        "tags": [*_TAGS, kind],
    }


def loading(facts: Mapping[str, str]) -> str:
    """Python code that loads the adapter."""
    weights = facts["weights"] or "PATH of the weights with the hash above"
    return (
        "from src import load_backbone  # pip install glare-lightning\n\n"
        f'backbone = load_backbone("{facts["backbone"]}", weights="{weights}", adapter="adapter.safetensors")\n'
        'features = backbone.dense("image.jpg")  # [D, h, w]'
    )


def data(trainer: Trainer) -> str:
    """Number of images, kind of the data module and batch size, without paths or file names."""
    module = type(getattr(trainer, "datamodule", None)).__name__
    loader: Any = trainer.train_dataloader
    images = getattr(loader, "dataset", None)
    count = f"{len(images)} unlabelled images" if isinstance(images, Sized) else "unlabelled images, streamed"
    return count if module == "NoneType" else f"{count} ({module})"


def device(trainer: Trainer) -> str:
    """Display name of the accelerator."""
    root = trainer.strategy.root_device
    return torch.cuda.get_device_name(root) if root.type == "cuda" else platform.processor() or "CPU"


def verdict(trainer: Trainer) -> str:
    """The guards' findings and the monitor's last numbers, frozen and adapted."""
    callbacks: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
    lines = [
        f"{_STOPPED} {guard.stopped}; {guard.saved}; metrics: when the run stopped"
        for guard in callbacks
        if isinstance(guard, Guards) and guard.stopped
    ]
    signs = next((callback.signs for callback in callbacks if isinstance(callback, Monitor) and callback.signs), {})
    rows = [
        f"| {words} | {signs[name].frozen:.3g} | {signs[name].adapted:.3g} |"
        for name, words in _ROWS.items()
        if name in signs
    ]
    if rows:
        lines.append("\n".join(["| on a sample of the images | frozen | adapted |", "| --- | --- | --- |", *rows]))
    if "knn" not in signs:
        lines.append(
            "Unknown: nothing was measured with labels. Compare frozen and adapted features on a labelled set before "
            "relying on it."
        )
    return "\n\n".join(lines)
