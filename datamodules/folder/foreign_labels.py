"""Labels next to images that are not masks: COCO and labelme polygons, YOLO text files."""

from __future__ import annotations

import re
from pathlib import Path

from datamodules.reading.listing import files_below

_HEAD = 65536  # bytes of a file that are inspected
_FILES = 1000  # files that are inspected: one of a kind is enough
_CLASS = re.compile(r"\d+")
_COORDINATE = re.compile(r"-?(\d+(\.\d+)?|\.\d+)(e-?\d+)?")  # unambiguous: a long file of numbers takes no longer


def foreign_labels(root: Path) -> str:
    """Name the first labels below a folder that have to be converted to masks, and how; empty if there are none."""
    candidates = (path for path in files_below(root) if path.suffix.lower() in (".json", ".txt"))
    for path, _ in zip(candidates, range(_FILES), strict=False):
        try:
            kind = _kind(path)
        except OSError:  # a broken link, or a file without read permission
            continue
        if kind:
            return (
                f"{path}, which holds {kind}; convert these to masks first, one PNG of class ids per image in "
                f"{root / 'masks'} ({_HOW[kind]})"
            )
    return ""


_HOW = {
    "COCO annotations": "pycocotools: COCO(file).annToMask(annotation)",
    "labelme polygons": "labelme: labelme_export_voc or labelme2voc.py",
    "YOLO labels": "cv2.fillPoly for polygons; bounding boxes are not masks",
}


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    if path.suffix.lower() == ".txt":
        first = head[: head.rfind("\n")] if len(head) == _HEAD else head
        return "YOLO labels" if _is_yolo(first) else ""
    if '"shapes"' in head and '"imagePath"' in head + _tail(path):
        return "labelme polygons"
    named = [f'"{key}"' in head + _tail(path) for key in ("images", "annotations", "categories")]
    return "COCO annotations" if sum(named) >= 2 else ""


def _is_yolo(text: str) -> bool:
    """Return whether each line is a class and the coordinates of a box or a polygon."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return bool(rows) and all(
        len(row) >= 5 and _CLASS.fullmatch(row[0]) and all(map(_COORDINATE.fullmatch, row[1:])) for row in rows
    )


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _HEAD))
        return file.read().decode("utf-8", "replace")
