"""The settings that benchmarks/screening.py compares, and the model of each."""

from __future__ import annotations

import functools
from typing import Any

from src.backbones import Backbone
from src.backbones.adapters import Full, LoRA, UniAdapter
from src.evaluation.test_time_averaging import SCALES
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.distillation import MultiScaleDistillation
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, Mask
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.targets import Centring, SinkhornKnopp, Uncentred

LINEAR = ("q", "k", "v", "proj", "fc1", "fc2")
PRESET = "local, balanced"
BASE: dict[str, Any] = {  # the preset
    "method": "calibrated",
    "distillation": 0.0,
    "local": 1.0,
    "same_view": 0.5,
    "targets": SinkhornKnopp,
    "strength": 1.0,
    "hidden": 1024,
}
HALF: dict[str, Any] = {"strength": 0.5}
TWICE: dict[str, Any] = {"length": 2.0}
UNCENTRED: dict[str, Any] = {"targets": Uncentred}
CENTRED: dict[str, Any] = {"targets": Centring}
VIEWS: dict[str, Any] = {"same_view": 0.0}  # the same ground in the other view, alone
BESIDE: dict[str, Any] = {"distillation": 1.0}  # fixed targets, beside the local terms
FIXED: dict[str, Any] = {"distillation": 1.0, "local": 0.0, "hidden": 0}  # fixed targets, alone
WEAK: dict[str, Any] = {"distillation": 1.0, "local": 0.3, **UNCENTRED}  # the preset until balanced targets
SETTINGS: dict[str, dict[str, Any]] = {
    PRESET: {},
    "glare": {"method": "glare"},
    "local, balanced, half strength": HALF,
    "local, balanced, steps x 2": TWICE,
    "local, balanced, half strength, steps x 2": {**HALF, **TWICE},
    "local, balanced, steps x 0.5": {"length": 0.5},
    "local, balanced, teacher at 0.1": {"temperature": 0.1},
    "local, balanced, K 64": {"prototypes": 64},
    "local, balanced, K 1024": {"prototypes": 1024},
    "local, balanced, random centroids": {"centroids": "random"},
    "local, balanced, no MLP": {"hidden": 0},
    "local, balanced, no whitening": {"epsilon": None},
    "local, balanced, no distortion": {"ratio": 0.0},
    "local, balanced, masked patches": {"mask": True},
    "local, balanced, unchanged colours": {"colours": "none"},
    "local, balanced, UDI's views": {"views": "udi"},
    "local, balanced, 16 x 224 px": {"batch": 16, "size": 224},
    "local, balanced, lr 5e-4": {"lr": 5e-4},
    "local, balanced, lr 2e-3": {"lr": 2e-3},
    "local, balanced, rank 64": {"rank": 64},
    "local, balanced, UniAdapter s 1": {"adapter": "uniadapter"},
    "local, balanced, UniAdapter s 0.1": {"adapter": "uniadapter", "scale": 0.1},
    "local, balanced, full 5e-5": {"adapter": "full", "lr": 5e-5},
    "local, balanced, cosine anchor 1": {"anchor": 1.0},
    "local + 0.5 regional, balanced": {"regional": 0.5},
    "local + 0.5 global, balanced": {"global": 0.5},
    "distillation + local, balanced": BESIDE,
    "between views, balanced": VIEWS,
    "between views, balanced, half strength": {**VIEWS, **HALF},
    "distillation + between views, balanced": {**BESIDE, **VIEWS},
    "distillation + between views, balanced, half strength": {**BESIDE, **VIEWS, **HALF},
    "distillation + between views, centred": {**BESIDE, **VIEWS, **CENTRED},
    "distillation + between views, centred, half strength": {**BESIDE, **VIEWS, **CENTRED, **HALF},
    "distillation + between views, no MLP": {**BESIDE, **VIEWS, **UNCENTRED, "hidden": 0},
    "distillation + between views, no MLP, half strength": {**BESIDE, **VIEWS, **UNCENTRED, "hidden": 0, **HALF},
    "distillation": {**FIXED, **UNCENTRED},
    "distillation + 0.3 local": WEAK,
    "distillation + 0.3 local, steps x 2": {**WEAK, **TWICE},
    "distillation + 0.3 between views": {**WEAK, **VIEWS},
    "distillation on prototypes + 0.3 local": {**WEAK, "loss": "prototypes"},
    "distillation + local": {**BESIDE, **UNCENTRED},
    "distillation + local, teacher at 0.1": {**BESIDE, **UNCENTRED, "temperature": 0.1},
    "distillation + between views": {**BESIDE, **VIEWS, **UNCENTRED},
    "distillation + between views, half strength": {**BESIDE, **VIEWS, **UNCENTRED, **HALF},
    "between views": {**VIEWS, **UNCENTRED},
    "between views, half strength": {**VIEWS, **UNCENTRED, **HALF},
    "local": UNCENTRED,
    "local, half strength": {**UNCENTRED, **HALF},
    "local, same view alone": {**UNCENTRED, "same_view": 1.0},
    "local, no distortion": {**UNCENTRED, "ratio": 0.0},
    "local, same view alone, no distortion": {**UNCENTRED, "same_view": 1.0, "ratio": 0.0},
    "local, teacher at 0.1": {**UNCENTRED, "temperature": 0.1},
    "local, unchanged colours": {**UNCENTRED, "colours": "none"},
    "local, UDI's views": {**UNCENTRED, "views": "udi"},
    "DINO + LoRA + Gram": {"method": "dino-gram"},
}
STEPS = 150  # of the preset


def steps_of(length: float, stage: str) -> int:
    """Optimiser steps: the preset's times `length`, half of that while screening."""
    return round(length * STEPS / (2 if stage == "screening" else 1))


def model(setting: dict[str, Any], backbone: Backbone, seed: int) -> ContinualPretraining:
    """A method with one setting."""
    if setting["method"] == "calibrated":
        kind = setting.get("adapter", "lora")
        rank = setting.get("rank", 16)
        adapter = {
            "lora": LoRA(rank=rank, alpha=rank, targets=LINEAR),
            "uniadapter": UniAdapter(rank=64, scale=setting.get("scale", 1.0)),
            "full": Full(),
        }[kind]
        head: Any = functools.partial(
            CalibratedHead,
            prototypes=setting.get("prototypes", 256),
            hidden=setting["hidden"],
            epsilon=setting.get("epsilon", 0.1),
            centroids=setting.get("centroids", "kmeans"),
        )
        objectives: dict[str, Any] = {
            "distillation": MultiScaleDistillation(
                setting["distillation"],
                setting.get("scales", SCALES),
                loss=setting.get("loss", "cosine"),
            ),
            "local": LocalConsistency(
                setting["local"],
                setting["targets"](),
                same_view=setting["same_view"],
                between_views=1 - setting["same_view"],
            ),
            "regional": RegionalConsistency(setting.get("regional", 0.0), setting["targets"]()),
            "global": GlobalConsistency(setting.get("global", 0.0), setting["targets"]()),
        }
        if setting.get("anchor"):
            objectives["anchor"] = CosineAnchor(weight=setting["anchor"])
        temperature = setting.get("temperature", 0.05)
        optimisation = Optimisation(
            lr=setting.get("lr", 1e-3),
            lr_batch=None,
            head_warmup=0.0,
            freeze_last_layer=0,
            teacher_temperature=(temperature, temperature),
        )
    else:
        head = functools.partial(
            ProjectionHead, prototypes=1024, hidden=1024, bottleneck=256, initialisation="orthogonal"
        )
        glob = GlobalConsistency(targets=SinkhornKnopp(temperature=0.03), centre_tokens=True)
        if setting["method"] == "glare":
            adapter = UniAdapter(rank=64)
            objectives = {
                "global": glob,
                "regional": RegionalConsistency(targets=SinkhornKnopp()),
                "local": LocalConsistency(targets=SinkhornKnopp()),
            }
        else:
            adapter = LoRA(rank=16, alpha=16, targets=LINEAR)
            objectives = {"global": glob, "gram": GramAnchor(weight=1.0)}
        optimisation = Optimisation(lr=setting.get("lr", 1e-3), lr_batch=None)
    return ContinualPretraining(
        backbone,
        adapter,
        head,
        objectives,
        patch_augmentation=Mask() if setting.get("mask") else Blur(setting.get("ratio", 0.3)),
        optimisation=optimisation,
        strength=setting["strength"],
        seed=seed,
    )
