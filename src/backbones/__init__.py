"""A frozen ViT, the adapters put into it, and the checkpoints its weights come from."""

from src.backbones.backbone import Backbone, Features, load_backbone

__all__ = ["Backbone", "Features", "load_backbone"]
