"""Limit on the number of files decoded at a time."""

from __future__ import annotations

import os

# each thread holds a whole image, of 16 bits up to 20 bytes a pixel: memory is bounded by the few, not by the cores
DECODERS = min(4, os.cpu_count() or 1)
