"""Write a finished stage's files: provenance first, metrics last, which marks completion."""

import json
import resource
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import fmean

from src.config.composition import Config
from src.core.errors import MissingFile
from src.core.json_files import read_json, write_json
from src.core.safetensors_header import count_values, parse_header
from src.studies.results.curves import read_curves
from src.studies.run.machine import machine


def write_outcome(folder: Path, seconds: float, resumed: bool) -> None:
    """Write `provenance.json` and `metrics.json` of the cell in `folder`, whose process calls this last.

    Args:
        folder: with `cell.json`, and what the stage has left.
        seconds: that this process took.
        resumed: True if it continued from a checkpoint; `seconds` are then those of the last attempt.

    Raises:
        MissingFile: if the stage left no result.
    """
    cell = read_json(folder / "cell.json", {"cell": str, "config": str, "seed": int, "stage": str, "title": str})
    if cell is None:
        raise MissingFile(
            f"{folder / 'cell.json'}: expected what the runner wrote, found no such file or a damaged one"
        )
    values = evaluated(folder) if cell["stage"] == "evaluate" else pretrained(folder)
    last = values.get("step")  # counted from 0
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    provenance = {
        **machine(),
        "title": cell["title"],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_memory_bytes": max(peaks) * (1 if sys.platform == "darwin" else 1024),
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "resumed": resumed,
        "stage": cell["stage"],
        "steps": None if last is None else last + 1,
        **speed(folder),
    }
    write_json(folder / "provenance.json", provenance)
    kept = {key: cell[key] for key in ("cell", "config", "seed")}
    write_json(folder / "metrics.json", {**kept, "values": values})


def evaluated(folder: Path) -> Config:
    """The scores of an evaluation."""
    found = read_json(folder / "evaluation.json")
    if found is None:
        raise MissingFile(f"{folder / 'evaluation.json'}: the evaluation ended without writing it, or it is damaged")
    return found


def pretrained(folder: Path) -> Config:
    """The last losses of a pre-training, and a hash of its adapter."""
    adapter = folder / "adapter.safetensors"
    if not adapter.is_file():
        raise MissingFile(f"{adapter}: the pre-training ended without writing it")
    last = {name: curve[-1] for name, curve in read_curves(folder / "metrics.csv").items()}
    losses = {name: value for name, (_, value) in last.items() if name.startswith("train/loss")}
    steps = [step for name, (step, _) in last.items() if name in losses]
    return {
        "adapter": tensors_hash(adapter),
        "losses": losses,
        "parameters": count_values(adapter),
        "step": max(steps, default=0),
    }


def speed(folder: Path) -> Config:
    """Mean images a second, where the stage trained long enough to log them, and the GPU's peak, where it used one."""
    found: Config = {}
    if (folder / "metrics.csv").is_file():
        curve = read_curves(folder / "metrics.csv").get("train/images_per_second", [])
        if curve:
            found["images_per_second"] = round(fmean(value for _, value in curve), 3)
    torch = sys.modules.get("torch")  # loaded in every real stage, so not imported just for this
    if torch is not None and torch.cuda.is_initialized():
        found["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return found


def tensors_hash(path: Path) -> str:
    """A hash of a safetensors file that does not depend on the order in which its metadata happened to be written."""
    content = path.read_bytes()
    header, size = parse_header(content, len(content), str(path))
    return sha256(json.dumps(header, sort_keys=True).encode() + content[size:]).hexdigest()
