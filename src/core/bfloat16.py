"""Detect processors with bfloat16 instructions, and warn if they are emulated."""

from __future__ import annotations

import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)

_INSTRUCTIONS = r"\b(avx512_bf16|amx_bf16|bf16)\b"  # in x86's `flags`, and in Arm's `Features`


def processor_flags() -> str:
    """The processor's instruction sets; empty if the system does not list them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def computes_bfloat16(flags: str) -> bool:
    """Return whether these instruction sets multiply bfloat16 matrices."""
    return re.search(_INSTRUCTIONS, flags) is not None


def warn_of_emulation(precision: object, device: str) -> None:
    """Warn about a fit or evaluation in bfloat16 on a processor without instructions for it.

    Args:
        precision: The trainer's.
        device: Type of the device that computes, such as `cpu`.
    """
    flags = processor_flags()
    if device == "cpu" and str(precision).startswith("bf16") and flags and not computes_bfloat16(flags):
        logger.warning(
            "trainer.precision %s: this processor has no bfloat16 instructions (expected avx512_bf16 or amx_bf16 among "
            "its flags) and emulates them, up to a hundred times slower; use 32-true",
            precision,
        )
