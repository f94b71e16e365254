"""GLARE: continual self-supervised pre-training (arXiv 2509.17816)."""

from src.pretraining.module import ContinualPretraining

__all__ = ["ContinualPretraining"]
