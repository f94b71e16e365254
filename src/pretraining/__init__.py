"""GLARE: continual self-supervised pre-training (arXiv 2509.17816), readable in one sitting."""

from src.pretraining.module import ContinualPretraining

__all__ = ["ContinualPretraining"]
