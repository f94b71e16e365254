"""Painted aerial scenes: a data set that needs no download."""

from datamodules.scenes.module import ScenesDataModule

__all__ = ["ScenesDataModule"]
