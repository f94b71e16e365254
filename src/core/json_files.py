"""Write JSON files atomically; ignore unreadable ones with a warning."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.core.atomic_files import write_text
from src.core.printable import printable

Expected = Mapping[str, type | tuple[type, ...]]  # keys of a mapping → types of their values
NUMBER = (int, float)
_told: set[tuple[str, str]] = set()  # a study reads the same file many times


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping, sorted by key, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, expected: Expected | None = None) -> dict[str, Any] | None:
    """Read a mapping; None if the file does not exist, or is unusable, with a warning on stderr.

    Args:
        path: The file.
        expected: Keys that the mapping must have, with the types of their values.
    """
    content = _parsed(path)
    if content is None:
        return None
    if not isinstance(content, dict):
        damaged(path, f"expected a mapping, found a {type(content).__name__}")
        return None
    for key, kind in (expected or {}).items():
        value = content.get(key)
        if key not in content or not isinstance(value, kind) or (isinstance(value, bool) and kind == NUMBER):
            damaged(path, f"expected a value for {key!r}, found {value!r:.60}")
            return None
    return content


def read_json_list(path: Path, expected: Mapping[str, type]) -> list[dict[str, Any]]:
    """Read a list of mappings that have the keys `expected`; empty if the file does not exist or is unusable."""
    content = _parsed(path)
    if content is None:
        return []
    whole = isinstance(content, list) and all(
        isinstance(item, dict) and all(isinstance(item.get(key), kind) for key, kind in expected.items())
        for item in content
    )
    if not whole:
        damaged(path, f"expected a list of mappings with {', '.join(expected)}")
        return []
    return list(content)


def damaged(path: Path, fault: str) -> None:
    """Warn about an unusable file, once per fault."""
    if (str(path), fault) not in _told:
        _told.add((str(path), fault))
        print(f"warning: {printable(str(path))}: {printable(fault)}; ignored", file=sys.stderr, flush=True)


def _parsed(path: Path) -> Any:
    """The content, or None."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        damaged(path, f"cannot be read ({error.strerror})")
        return None
    if not text.strip(b"\0 \t\r\n"):
        damaged(path, f"expected JSON, found {'only whitespace' if text else 'an empty file'}")
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        damaged(path, f"expected JSON, found a damaged file ({error})")
        return None
    if content is None:
        damaged(path, "expected a mapping or a list, found null")
    return content
