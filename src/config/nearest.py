"""Nearest valid word to a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, valid: Iterable[str], prefix: str = "") -> str:
    """Suggest a valid word for an unknown one, for the end of a message.

    Args:
        word: The unknown word.
        valid: The words that are known.
        prefix: Shown before each of them but not compared, such as the dashes of flags.

    Returns:
        ``, did you mean 'x'?`` with the most similar valid word, or its abbreviation or long form (`lr` and
        `learning_rate`); otherwise the list of valid words if it is short.
    """
    words = sorted(valid)
    close = get_close_matches(word, words, n=1, cutoff=0.6) or [
        known for known in words if known == initials(word) or word == initials(known)
    ]
    if close:
        return f", did you mean {prefix + close[0]!r}?"
    return f" (valid: {', '.join(prefix + known for known in words)})" if 0 < len(words) <= 20 else ""


def initials(word: str) -> str | None:
    """The initials of a word of several parts, such as `lr` for `learning_rate` or `--learning-rate`; else None."""
    parts = re.findall(r"[^\W_]+", word)
    return "".join(part[0] for part in parts) if len(parts) > 1 else None
