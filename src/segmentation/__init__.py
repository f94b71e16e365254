"""Segmentation on an adapted backbone: decoders, inference and the evaluation loop."""

from src.segmentation.module import SemanticSegmentation

__all__ = ["SemanticSegmentation"]
