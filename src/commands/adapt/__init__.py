"""Adapt a backbone to a folder of unlabelled images, with no configuration."""

from src.commands.adapt.command import main

__all__ = ["main"]
