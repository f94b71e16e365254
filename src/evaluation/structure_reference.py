"""Runs of this project whose gain was measured, as the reference for the structure of a run without masks.

`structure_reference.yaml` holds, for each run, the change of the monitor's dense structure and that of the converged
linear probe's mIoU. `benchmarks/structure_calibration.py` writes it from folders of studies, `evidence` and `adapt`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from src.config.yaml_reader import read
from src.core.errors import UserError
from src.evaluation.significance import signed

FILE = Path(__file__).with_suffix(".yaml")


class MeasuredRun(NamedTuple):
    """One adaptation on one domain.

    Attributes:
        domain: Images that it adapted to.
        setting: Variant of the method.
        structure: Change of the dense structure from frozen to adapted.
        miou: Change of the converged linear probe's mIoU, points.
    """

    domain: str
    setting: str
    structure: float
    miou: float


class Agreement(NamedTuple):
    """Agreement of the changes of structure with those of mIoU.

    Attributes:
        tau: Kendall's τ between the changes of structure and of mIoU, within −1 … 1.
        same_sign: Runs in which both changes have the same sign.
        runs: Number of runs.
    """

    tau: float
    same_sign: int
    runs: int


@cache
def measured_runs() -> tuple[MeasuredRun, ...]:
    """The runs of the packaged file."""
    return tuple(MeasuredRun(**run) for run in read(FILE)["runs"])


def agreement(runs: tuple[MeasuredRun, ...]) -> Agreement:
    """Compare the changes of structure with those of mIoU.

    Raises:
        UserError: If there are fewer than three runs.
    """
    if len(runs) < 3:
        raise UserError(f"Kendall's tau needs at least 3 runs, found {len(runs)}; measure more settings or domains")
    structure, miou = np.array([[run.structure, run.miou] for run in runs]).T
    return Agreement(float(kendalltau(structure, miou).statistic), int((structure * miou > 0).sum()), len(runs))


def moved_alike(change: float, runs: tuple[MeasuredRun, ...]) -> str:
    """Say how many of the measured runs moved in the same direction, separately for gains and losses of mIoU.

    Args:
        change: Change of the dense structure of the run in question.
        runs: The reference.
    """
    gained = [run for run in runs if run.miou > 0]
    lost = [run for run in runs if run.miou <= 0]
    counts = [f"{sum(run.structure * change > 0 for run in part)} of {len(part)}" for part in (gained, lost)]
    direction = "rose" if change > 0 else "fell"
    return (
        f"It {direction} as in {counts[0]} measured runs that gained and {counts[1]} that did not "
        f"(Kendall's tau {signed(agreement(runs).tau, 1)} over {len(runs)} runs)."
    )
