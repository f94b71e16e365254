"""Frozen ViTs, their adapters, and the checkpoints of their weights."""

from src.backbones.backbone import Backbone, load_adapter, load_backbone
from src.backbones.features import Features

__all__ = ["Backbone", "Features", "load_adapter", "load_backbone"]
