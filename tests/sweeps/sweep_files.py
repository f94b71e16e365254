"""Sweep files of the stand-in for a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from src.sweeps.definition import Sweep
from tests.command_line import ROOT

COMMAND = ["${interpreter}", "${program}", "${args}"]


def written(folder: Path, parameters: dict[str, Any], **changes: Any) -> Path:
    """A file with these parameters, a grid unless told otherwise."""
    content = {
        "program": str(ROOT / "tests" / "sweeps" / "fake_fit.py"),
        "method": "grid",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": parameters,
        "command": COMMAND,
        **changes,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def sweep(folder: Path, parameters: dict[str, Any], **changes: Any) -> Sweep:
    """The same, read."""
    return Sweep.read(written(folder, parameters, **changes))
