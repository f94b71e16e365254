"""Limit the number of files that are decoded at a time."""

from __future__ import annotations

from src.core.cores import usable_cores

# each thread holds a whole image, up to 20 bytes per pixel for 16 bits: this bounds memory whatever the number of cores
DECODERS = min(4, usable_cores())
