"""The settings that benchmarks/screening.py compares, and the model of each."""

from __future__ import annotations

import functools
from typing import Any

from src.backbones import Backbone
from src.backbones.adapters import Full, LoRA, UniAdapter
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, Mask
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.targets import SinkhornKnopp, Uncentred

LINEAR = ("q", "k", "v", "proj", "fc1", "fc2")
BASE: dict[str, Any] = {"method": "calibrated"}
SETTINGS: dict[str, dict[str, Any]] = {
    "calibrated": {},
    "glare": {"method": "glare"},
    "steps x 2": {"length": 2.0},
    "lr 5e-4": {"lr": 5e-4},
    "lr 2e-3": {"lr": 2e-3},
    "UniAdapter s 1": {"adapter": "uniadapter"},
    "full 5e-5": {"adapter": "full", "lr": 5e-5},
    "+ regional": {"regional": 0.5},
    "+ global": {"global": 0.5},
    "16 x 224 px": {"batch": 16, "size": 224},
    "K 64": {"prototypes": 64},
    "K 1024": {"prototypes": 1024},
    "no whitening": {"epsilon": None},
    "no MLP": {"hidden": 0},
    "random centroids": {"centroids": "random"},
    "steps x 0.5": {"length": 0.5},
    "rank 64": {"rank": 64},
    "cosine anchor 1": {"anchor": 1.0},
    "DINO + LoRA + Gram": {"method": "dino-gram"},
    "masked patches": {"mask": True},
    "epsilon 0.3": {"epsilon": 0.3},
    "teacher at 0.07": {"temperature": 0.07},
}


def steps_of(images: int, length: float) -> int:
    """Optimiser steps by the number of images: 150 up to 60 images, 300 from 240 on."""
    return round(length * min(300, max(150, 150 + (images - 60) * 150 / 180)))


def model(setting: dict[str, Any], backbone: Backbone, seed: int) -> ContinualPretraining:
    """A method with one setting."""
    if setting["method"] == "calibrated":
        kind = setting.get("adapter", "lora")
        rank = setting.get("rank", 16)
        adapter = {
            "lora": LoRA(rank=rank, alpha=rank, targets=LINEAR),
            "uniadapter": UniAdapter(rank=64, scale=1.0),
            "full": Full(),
        }[kind]
        head: Any = functools.partial(
            CalibratedHead,
            prototypes=setting.get("prototypes", 256),
            hidden=setting.get("hidden", 1024),
            epsilon=setting.get("epsilon", 0.1),
            centroids=setting.get("centroids", "kmeans"),
        )
        objectives: dict[str, Any] = {
            "local": LocalConsistency(targets=Uncentred()),
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
    augmentation = Mask() if setting.get("mask") else Blur()
    return ContinualPretraining(
        backbone, adapter, head, objectives, patch_augmentation=augmentation, optimisation=optimisation, seed=seed
    )
