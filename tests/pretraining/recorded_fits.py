"""Twelve steps of each method and adapter kind on a tiny ViT, and the numbers that they have led to.

`python -m tests.pretraining.recorded_fits` writes the numbers anew, after a change that is meant to move them: commit
them with the change, and say in the changelog what moved.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from unittest.mock import patch

import timm
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.backbones import backbone as backbone_module
from src.backbones.adapters import SLR, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.pretraining import ContinualPretraining
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, Mask
from tests.tiny import SIZES, random_crops, tiny_head

FILE = Path(__file__).with_name("recorded_values.json")
STEPS = 12
OPTIMISATION = Optimisation(lr=1e-2, lr_batch=None, freeze_last_layer=0)

Values = dict[str, float]


# The baselines as experiments/methods has them; their regional level is off.
BASELINES = {
    "DINO": (LocalConsistency(0.0), Blur()),
    "UDI": (LocalConsistency(same_view=0.0, between_views=1.0), Blur(0.0)),
    "iBOT": (LocalConsistency(same_view=1.0, between_views=0.0, distorted_only=True), Mask(0.3)),
}
ADAPTERS = (UniAdapter(rank=4), AdaptFormer(rank=4), LoRA(rank=2), SLR(rank=2), BitFit(), LastBlocks(1), Full())
FITS = (*(f"GLARE, {type(adapter).__name__}" for adapter in ADAPTERS), *BASELINES)


def measured(name: str, disturb: float = 0.0) -> Values:
    """Fit for twelve steps, and return a few numbers that every trained value has a part in.

    Args:
        name: One of `FITS`.
        disturb: Relative size of noise on the frozen weights.

    Returns:
        The last loss; how far the student's adapter has moved, and in which direction; the same of the teacher's.
    """
    adapter = next((adapter for adapter in ADAPTERS if name == f"GLARE, {type(adapter).__name__}"), ADAPTERS[0])
    local, augmentation = BASELINES.get(name, (LocalConsistency(), Blur()))
    regional = RegionalConsistency(0.0 if name in BASELINES else 1.0)
    objectives = {"global": GlobalConsistency(), "regional": regional, "local": deepcopy(local)}
    seed_everything(0, verbose=False)
    with (
        patch.object(nn.init, "trunc_normal_", _truncated),  # torch 2.11 and 2.14 draw other numbers
        _tiny_trunk(disturb),
        tempfile.TemporaryDirectory() as folder,
    ):
        module = ContinualPretraining(
            Backbone("vit_tiny_patch16_224", "none"), adapter, tiny_head(), objectives, augmentation, OPTIMISATION
        )
        before = _flat(module.student.backbone)
        trainer = Trainer(
            max_steps=STEPS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, DataLoader([random_crops(4, seed=step, local=2) for step in range(STEPS)], batch_size=None))
    found = {"loss": float(trainer.callback_metrics["train/loss"])}
    for whose, network in (("student", module.student), ("teacher", module.teacher.network)):
        moved = _flat(network.backbone) - before
        found[f"{whose} moved"] = float(moved.norm())
        found[f"{whose} direction"] = float(moved @ torch.cos(torch.arange(len(moved)).double()) / moved.norm())
    return found


def _truncated(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    with torch.no_grad():
        return tensor.normal_(mean, std).clamp_(a, b)


def _flat(backbone: Backbone) -> Tensor:
    return torch.cat([backbone.get_parameter(name).detach().double().flatten() for name in backbone.adapter_names])


@contextmanager
def _tiny_trunk(disturb: float) -> Iterator[None]:
    def build(model: str, weights: str, *_: object) -> nn.Module:
        torch.manual_seed(0)
        trunk = timm.create_model(model, num_classes=0, dynamic_img_size=True, **SIZES)
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            noise = torch.Generator().manual_seed(1)
            for parameter in trunk.parameters():
                parameter.mul_(1 + disturb * torch.randn(parameter.shape, generator=noise))
        return trunk

    with patch.object(backbone_module, "build_trunk", build):
        yield


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: measured(name) for name in FITS}, indent=1) + "\n", encoding="utf-8")
