"""A frozen ViT, the adapters put into it, and the checkpoints its weights come from."""

from src.backbones.backbone import Backbone, load_adapter, load_backbone
from src.backbones.features import Features

__all__ = ["Backbone", "Features", "load_adapter", "load_backbone"]
