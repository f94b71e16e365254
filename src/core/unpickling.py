"""Explain why torch could not read a pickle, without its advice to run the pickle's code."""

from __future__ import annotations

import re

_WANTED = re.compile(r"GLOBAL ([\w.]+)")
_UNPICKLER = re.compile(r"WeightsUnpickler error:\s*(.*)")


def wanted_call(error: Exception) -> str | None:
    """Return the function or class that a refused pickle calls, or None for another error."""
    match = _WANTED.search(str(error))
    return match[1] if match else None


def reason_of(error: Exception) -> str:
    """Return the error in at most 200 characters of one line."""
    text = str(error)
    match = _UNPICKLER.search(text)
    lines = [line.strip() for line in (match[1] if match else text).splitlines() if line.strip()]
    if not lines or "weights_only" in lines[0]:
        return "its list of tensors cannot be read"
    return lines[0][:200]
