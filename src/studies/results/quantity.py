"""Quantity of a column: where a cell's files hold its number, and its unit."""

from dataclasses import dataclass
from typing import Literal

from src.evaluation.significance import POINTS


@dataclass(frozen=True)
class Quantity:
    """One measurable thing.

    Attributes:
        kept_in: `scores` of the evaluation, `values` of the pre-training, or its `provenance`: other in every run,
            and so compared by people only.
        path: Keys on the way to it, joined by slashes.
        factor: From the unit of the file to that of the table.
        unit: Unit of the table.
        digits: After the point.
    """

    kept_in: Literal["scores", "values", "provenance"]
    path: str
    factor: float
    unit: str
    digits: int


COSTS = {
    "parameters": Quantity("values", "parameters", 1e-6, "million trained parameters", 2),
    "hours": Quantity("provenance", "seconds", 1 / 3600, "hours of pre-training", 2),
    "images_per_second": Quantity("provenance", "images_per_second", 1.0, "images a second in pre-training", 1),
    "memory": Quantity("provenance", "peak_memory_bytes", 2**-30, "GiB of memory in pre-training", 2),
    "gpu_memory": Quantity("provenance", "peak_gpu_memory_bytes", 2**-30, "GiB of GPU memory", 2),
}


def quantity(metric: str) -> Quantity:
    """The quantity that a column's `metric` names: a cost, else a share among the evaluation's scores, in per cent."""
    if metric in COSTS:
        return COSTS[metric]
    if metric == "cross_entropy":
        return Quantity("scores", metric, 1.0, "cross-entropy in nats a patch", 3)
    return Quantity("scores", metric, POINTS, f"{'mIoU' if metric == 'miou' else metric} in %", 1)
