"""The user's own images, with or without masks."""

from datamodules.folder.module import FolderDataModule

__all__ = ["FolderDataModule"]
