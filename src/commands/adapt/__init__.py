"""Adapt a backbone to a folder of unlabelled images, with no configuration."""

from src.commands.adapt.command import main
from src.commands.adapt.python import adapt

__all__ = ["adapt", "main"]
