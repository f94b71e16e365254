"""A job whose stages are `quick_stage.py`: submitit pickles the class by its name, and its process imports it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from src.studies.run import execution
from src.studies.run.job import CellJob

QUICK = Path(__file__).with_name("quick_stage.py")


@dataclass
class QuickJob(CellJob):
    """Runs stages that take a moment."""

    def __call__(self) -> str:
        execution.STAGE = (sys.executable, str(QUICK))
        return super().__call__()
