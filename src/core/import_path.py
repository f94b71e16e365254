"""Order import paths: this package before any other `src`, then packages in the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]  # the folder that holds src, datamodules and experiments


def add_current_folder() -> None:
    """Allow class paths to name modules in the current folder, after everything installed."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with which ``python -m src…`` finds this package from any current folder."""
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if HOME.name not in ("site-packages", "dist-packages") and str(HOME) not in paths:
        paths.insert(0, str(HOME))
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
