"""Check numbers in documents against the published files (docs/results.md describes the marks).

A mark names the file, below the folder of the document root, and the key:

    GLARE reaches 57.3 <!-- from results/camvid/table.json#rows/glare/entries/linear/mean --> mIoU.
    | GLARE | 57.3 ± 0.2 (2) … +3.2 | 57.6 (1) … +5.5 | <!-- from results/camvid/table.md#GLARE -->
    41.6 mIoU <!-- from paper arXiv 2509.17816 -->
    <!-- unpublished: why there is no file -->
"""

import re
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, NamedTuple

from src.core.json_files import read_json

MARK = re.compile(r"<!--\s*(?:from (?P<file>results/[^#\s]+)#(?P<key>.+?)|from paper .+?|unpublished: .+?)\s*-->")
NUMBER = re.compile(r"[+−-]?\d+(?:\.\d+)?")
RESULT = re.compile(r"(?<![\w.])[+−-]?\d{1,2}\.\d(?!\w|\.\d)")  # how mIoU in points looks: 57.3
SUBJECT = re.compile(r"mIoU", re.IGNORECASE)
SHARES = "metrics.json"  # holds shares, and documents points of a hundred


class Finding(NamedTuple):
    """Problem found in a line."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def check(files: Sequence[Path], root: Path) -> tuple[int, list[Finding]]:
    """Compare numbers and rows with their files: the count of those that agree, and the findings.

    Args:
        files: Markdown.
        root: the folder that holds `results`.
    """
    agreed, findings = 0, []
    for file in files:
        for block in blocks(file.read_text(encoding="utf-8")):
            exception = MARK.fullmatch(block[0][1].strip())
            covered = exception is not None and exception["file"] is None
            about_miou = any(SUBJECT.search(MARK.sub("", line)) for _, line in block)
            for number, line in block:
                marks = list(MARK.finditer(line))
                for mark in marks:
                    if mark["file"] is not None:
                        message = disagreement(line, mark, root)
                        agreed += message is None
                        findings += [Finding(file, number, message)] if message else []
                if about_miou and not marks and not covered and (found := RESULT.search(line)):
                    findings.append(Finding(file, number, f"{found[0]} looks like mIoU and has no mark"))
    return agreed, findings


def blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Paragraphs and tables as numbered lines; a table and what introduces it are one.

    Fenced code is left out. A mark alone on its line belongs to what follows it.
    """
    block: list[tuple[int, str]] = []
    fenced = False
    everything = text.splitlines()
    for number, line in enumerate(everything, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            ends = MARK.fullmatch(line.strip()) if line.strip() else not continues(everything[number:])
            if ends and block:
                yield block
                block = []
            if line.strip():
                block.append((number, line))
    if block:
        yield block


def continues(rest: Sequence[str]) -> bool:
    """Return whether the text after an empty line belongs to the text before it: a table to its introduction."""
    return bool(rest) and rest[0].lstrip().startswith("|")


def disagreement(line: str, mark: re.Match[str], root: Path) -> str | None:
    """Describe how the text before a mark disagrees with its file, or None."""
    path, key = root / mark["file"], mark["key"]
    if not path.is_file():
        return f"{mark['file']}: no such file"
    before = line[: mark.start()].rstrip()
    if path.suffix == ".md":
        rows = {
            row.split("|")[1].strip(): row.rstrip() for row in path.read_text("utf-8").splitlines() if row[:1] == "|"
        }
        if key not in rows:
            return f"{mark['file']} has no row {key!r}; it has {', '.join(name for name in rows if name.strip('- '))}"
        return None if before == rows[key] else f"the row differs from {mark['file']}, which says: {rows[key]}"
    content = read_json(path)
    if content is None:
        return f"{mark['file']} cannot be read"
    value = lookup(content, key.split("/"))
    if not isinstance(value, int | float):
        return f"{mark['file']} has no number at {key!r}"
    said = NUMBER.findall(MARK.sub("", before))
    if not said:
        return f"no number precedes the mark of {mark['file']}#{key}"
    expected = rounded(100 * value if path.name == SHARES else value, said[-1])
    return (
        None
        if Decimal(said[-1].replace("−", "-")) == expected
        else f"{said[-1]} should be {expected}, as in {mark['file']}"
    )


def lookup(place: Any, keys: Sequence[str]) -> Any:
    """The value at a path of keys; in a list a key is a position or an item's `name`. None where there is none."""
    for key in keys:
        if isinstance(place, list):
            named = [item for item in place if isinstance(item, dict) and item.get("name") == key]
            place = named[0] if named else place[int(key)] if key.isdigit() and int(key) < len(place) else None
        else:
            place = place.get(key) if isinstance(place, dict) else None
    return place


def rounded(value: float, said: str) -> Decimal:
    """A value with as many digits after the point as were said, rounded as Python prints it."""
    digits = len(said.partition(".")[2])
    return Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)
