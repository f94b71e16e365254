"""CWFID, the Crop/Weed Field Image Dataset: carrot rows seen from a field robot, 966×1296 (Haug & Ostermann, 2014)."""

from __future__ import annotations

from typing import ClassVar

from datamodules.reading.paired_folders import PairedFolders


class CWFIDDataModule(PairedFolders):
    """CWFID: 40 training and 20 validation images. Colours are our choice: its black soil would darken an overlay."""

    CLASSES: ClassVar = {"soil": (120, 85, 60), "crop": (60, 180, 75), "weed": (230, 60, 60)}
    LABELS: ClassVar = {0: 0, 1: 1, 2: 2}
