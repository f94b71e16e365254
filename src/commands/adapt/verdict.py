"""Closing summary of `adapt`: changes of the backbone, from the monitor and the guards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightning.pytorch import Callback

from src.monitoring.feature_metrics import MetricPair
from src.monitoring.guards import Guards
from src.monitoring.monitor import Monitor

WORDS = {
    "rank/cls": "effective rank of class tokens",
    "rank/patches": "effective rank of patches",
    "cosine/cls": "cosine to the frozen class tokens",
    "cosine/patches": "cosine to the frozen patches",
    "agreement": "agreement of two views on the same ground",
    "knn": "mIoU of nearest neighbours (held-out images)",
    "probe": "mIoU of a ridge probe (held-out images)",
}


def verdict(callbacks: Sequence[Callback]) -> Iterator[str]:
    """Lines on the guards' findings, then on each number of the last check, frozen and adapted."""
    for guard in (callback for callback in callbacks if isinstance(callback, Guards)):
        if guard.stopped is not None:
            yield (f"{guard.stopped}; {guard.saved}. Metrics below: when the run stopped. See docs/monitoring.md")
        elif guard.warnings:
            count = "once" if len(guard.warnings) == 1 else f"{len(guard.warnings)} times, the last time"
            yield f"a guard warned {count} at {guard.warnings[-1]}"
    for monitor in (callback for callback in callbacks if isinstance(callback, Monitor)):
        if monitor.signs:
            yield from table(monitor.signs, monitor.step)


def table(signs: Mapping[str, MetricPair], step: int) -> Iterator[str]:
    """Numbers that can be compared across runs; those of targets belong to the head, which is discarded."""
    yield f"step {step}, on a fixed sample of your images (docs/monitoring.md explains each number):"
    yield f"  {'features':46}  frozen  adapted"
    for name, words in WORDS.items():
        if name in signs:
            yield f"  {words:46}{signs[name].frozen:8.3g}{signs[name].adapted:9.3g}"
    if "knn" not in signs:
        yield (
            "  without masks these show whether the features degraded, not whether adaptation helped: run a study "
            "with masks"
        )
