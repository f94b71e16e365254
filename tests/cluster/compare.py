"""Compare the cells of two runs folders: python -m tests.cluster.compare ONE OTHER [TOLERANCE]

Without a tolerance the numbers of every cell have to be the same bytes; with one, cells of one that the other lacks are
left out, and adapters and scores may differ by rounding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def cells(runs: Path) -> dict[str, Path]:
    """The folders of finished cells, by hash."""
    return {path.parent.name: path.parent for path in sorted(runs.glob("cells/*/metrics.json"))}


def numbers(content: Any) -> list[float]:
    """All numbers of a cell, in order."""
    if isinstance(content, dict):
        return [number for key in sorted(content) for number in numbers(content[key])]
    if isinstance(content, list):
        return [number for item in content for number in numbers(item)]
    return [float(content)] if isinstance(content, int | float) else []


def main(one: Path, other: Path, tolerance: float | None) -> int:
    """Print a line for each cell; the exit code is 1 if any differs or is missing."""
    ours, theirs = cells(one), cells(other)
    wrong = 0
    if tolerance is None:
        wrong += len(ours.keys() ^ theirs.keys())
    for name in sorted(ours.keys() & theirs.keys()):
        first, second = (each[name] / "metrics.json" for each in (ours, theirs))
        title = json.loads((ours[name] / "provenance.json").read_text())["title"]
        if tolerance is None:
            same, how = first.read_bytes() == second.read_bytes(), "the same bytes"
        else:
            pairs = zip(*(numbers(json.loads(file.read_text())) for file in (first, second)), strict=True)
            largest = max((abs(a - b) for a, b in pairs), default=0.0)
            adapters = [each[name] / "adapter.safetensors" for each in (ours, theirs)]
            if adapters[0].is_file():
                tensors = [load_file(file) for file in adapters]
                differences = [
                    float((tensors[0][key].float() - tensors[1][key].float()).abs().max()) for key in tensors[0]
                ]
                largest = max(largest, *differences)
            same, how = largest <= tolerance, f"equal within {tolerance:g} (largest difference {largest:.2g})"
        wrong += not same
        print(f"{name}  {title}: {how if same else 'DIFFERENT'}")
    if not ours.keys() & theirs.keys():
        wrong += 1
    print(f"{len(ours.keys() & theirs.keys())} cells compared, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None))
