"""CamVid: road scenes from a driving car, 360×480 (Brostow et al., 2008 and 2009)."""

from __future__ import annotations

from typing import ClassVar

from datamodules.reading.masks import IGNORE
from datamodules.reading.paired_folders import PairedFolders


class CamVidDataModule(PairedFolders):
    """CamVid in its common form of 11 classes: 367 training and 101 validation images; id 11, void, is ignored.

    Colours are those of its authors' labels.
    """

    CLASSES: ClassVar = {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "sidewalk": (0, 0, 192),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    }
    LABELS: ClassVar = {i: i for i in range(11)} | {11: IGNORE}
