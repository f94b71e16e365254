"""Use float64 on devices that support it; Apple GPUs do not.

Statistics that need it are computed on the CPU there; the keyed random numbers of a training step are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def has_float64(device: torch.device) -> bool:
    """Return whether a device supports float64."""
    return device.type != "mps"


def where_float64_is(tensor: Tensor) -> Tensor:
    """The tensor, or a copy on the CPU if its device has no float64."""
    return tensor if has_float64(tensor.device) else tensor.cpu()
