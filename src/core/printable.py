"""Make text from files safe to print: no name or metadata can control the terminal."""

from __future__ import annotations

import unicodedata

# control and format characters (escape sequences, changes of direction), lone surrogates, unassigned ones, line ends
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, lines: bool = False) -> str:
    r"""Escape invisible characters as Python does: `\x1b[31m`, `\n`, `\u202e`.

    Idempotent, since backslashes are kept.

    Args:
        text: Any text, such as a file name, a tensor name or metadata.
        lines: Keep line ends, for messages of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN and not (lines and character == "\n")
        else character
        for character in text
    )
