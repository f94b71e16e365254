"""float64 where a device has it: Apple GPUs do not.

Statistics that need it are computed on the CPU there; the keyed random numbers of a training step are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def has_float64(device: torch.device) -> bool:
    """Return whether tensors of float64 can be on a device."""
    return device.type != "mps"


def where_float64_is(tensor: Tensor) -> Tensor:
    """The tensor itself, or its copy on the CPU if its device has no float64."""
    return tensor if has_float64(tensor.device) else tensor.cpu()
