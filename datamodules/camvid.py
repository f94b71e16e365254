"""CamVid: road scenes from a driving car, 360×480 (Brostow et al., 2008 and 2009)."""

from __future__ import annotations

from typing import ClassVar

from datamodules.images import IGNORE
from datamodules.paired import PairedFolders


class CamVidDataModule(PairedFolders):
    """CamVid in its common form of 11 classes: 367 training and 101 validation images; id 11, void, is ignored."""

    CLASSES: ClassVar = {
        "sky": (128, 180, 255),
        "building": (128, 64, 48),
        "pole": (192, 192, 160),
        "road": (112, 80, 128),
        "sidewalk": (224, 128, 208),
        "tree": (64, 140, 40),
        "sign": (240, 210, 40),
        "fence": (96, 100, 140),
        "car": (40, 60, 200),
        "pedestrian": (230, 50, 50),
        "bicyclist": (20, 190, 190),
    }
    LABELS: ClassVar = {i: i for i in range(11)} | {11: IGNORE}
