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
PRESET = "distillation + 0.3 local"
BASE: dict[str, Any] = {  # the preset
    "method": "calibrated",
    "distillation": 1.0,
    "local": 0.3,
    "same_view": 0.5,
    "targets": Uncentred,
    "strength": 1.0,
    "hidden": 1024,
}
HALF: dict[str, Any] = {"strength": 0.5}
LOCAL: dict[str, Any] = {"distillation": 0.0, "local": 1.0}  # both local terms of GLARE, alone
VIEWS: dict[str, Any] = {**LOCAL, "same_view": 0.0}  # the same ground in the other view, alone
FIXED: dict[str, Any] = {"local": 0.0, "hidden": 0}  # fixed targets, alone
CENTRED: dict[str, Any] = {"targets": Centring}
BALANCED: dict[str, Any] = {"targets": SinkhornKnopp}
BETWEEN: dict[str, Any] = {"local": 1.0, "same_view": 0.0}  # beside the distillation
SETTINGS: dict[str, dict[str, Any]] = {
    PRESET: {},
    "glare": {"method": "glare"},
    "distillation": FIXED,
    "distillation + local": {"local": 1.0},
    "distillation + 0.3 between views": {"same_view": 0.0},
    "distillation + between views": BETWEEN,
    "distillation + between views, half strength": {**BETWEEN, **HALF},
    "distillation + between views, centred": {**BETWEEN, **CENTRED},
    "distillation + between views, centred, half strength": {**BETWEEN, **CENTRED, **HALF},
    "distillation + between views, balanced": {**BETWEEN, **BALANCED},
    "distillation + between views, balanced, half strength": {**BETWEEN, **BALANCED, **HALF},
    "distillation + between views, no MLP": {**BETWEEN, "hidden": 0},
    "distillation + between views, no MLP, half strength": {**BETWEEN, "hidden": 0, **HALF},
    "distillation on prototypes + 0.3 local": {"loss": "prototypes"},
    "distillation at finer scales": {**FIXED, "scales": (1.0, 1.5, 2.0)},
    "distillation, mirroring alone": {**FIXED, "scales": (1.0,)},
    "between views": VIEWS,
    "between views, half strength": {**VIEWS, **HALF},
    "between views, centred": {**VIEWS, **CENTRED},
    "between views, centred, half strength": {**VIEWS, **CENTRED, **HALF},
    "between views, balanced": {**VIEWS, **BALANCED},
    "between views, balanced, half strength": {**VIEWS, **BALANCED, **HALF},
    "between views, balanced, steps x 2": {**VIEWS, **BALANCED, "length": 2.0},
    "between views, balanced, half strength, steps x 2": {**VIEWS, **BALANCED, **HALF, "length": 2.0},
    "local, balanced, steps x 2": {**LOCAL, **BALANCED, "length": 2.0},
    "local, balanced, half strength, steps x 2": {**LOCAL, **BALANCED, **HALF, "length": 2.0},
    "between views, no MLP": {**VIEWS, "hidden": 0},
    "between views, no MLP, half strength": {**VIEWS, "hidden": 0, **HALF},
    "local": LOCAL,
    "local, half strength": {**LOCAL, **HALF},
    "local, centred": {**LOCAL, **CENTRED},
    "local, centred, half strength": {**LOCAL, **CENTRED, **HALF},
    "local, balanced": {**LOCAL, **BALANCED},
    "local, balanced, half strength": {**LOCAL, **BALANCED, **HALF},
    "local, same view alone": {**LOCAL, "same_view": 1.0},
    "local, no distortion": {**LOCAL, "ratio": 0.0},
    "local, same view alone, no distortion": {**LOCAL, "same_view": 1.0, "ratio": 0.0},
    "distillation + local, teacher at 0.1": {"local": 1.0, "temperature": 0.1},
    "local, teacher at 0.07": {**LOCAL, "temperature": 0.07},
    "local, teacher at 0.1": {**LOCAL, "temperature": 0.1},
    "local, unchanged colours": {**LOCAL, "colours": "none"},
    "local, UDI's views": {**LOCAL, "views": "udi"},
    "local, K 64": {**LOCAL, "prototypes": 64},
    "local, K 1024": {**LOCAL, "prototypes": 1024},
    "local, random centroids": {**LOCAL, "centroids": "random"},
    "local + regional": {**LOCAL, "regional": 0.5},
    "local + global": {**LOCAL, "global": 0.5},
    "local, steps x 2": {**LOCAL, "length": 2.0},
    "distillation + 0.3 local, steps x 2": {"length": 2.0},
    "steps x 0.5": {"length": 0.5},
    "lr 5e-4": {"lr": 5e-4},
    "lr 2e-3": {"lr": 2e-3},
    "rank 64": {"rank": 64},
    "16 x 224 px": {"batch": 16, "size": 224},
    "UniAdapter s 1": {"adapter": "uniadapter"},
    "UniAdapter s 0.1": {"adapter": "uniadapter", "scale": 0.1},
    "full 5e-5": {"adapter": "full", "lr": 5e-5},
    "no whitening": {"epsilon": None},
    "epsilon 0.3": {"epsilon": 0.3},
    "no MLP": {"hidden": 0},
    "no distortion": {"ratio": 0.0},
    "masked patches": {"mask": True},
    "unchanged colours": {"colours": "none"},
    "UDI's views": {"views": "udi"},
    "cosine anchor 1": {"anchor": 1.0},
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
            "regional": RegionalConsistency(weight=setting.get("regional", 0.0), targets=Uncentred()),
            "global": GlobalConsistency(weight=setting.get("global", 0.0), targets=Uncentred()),
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
