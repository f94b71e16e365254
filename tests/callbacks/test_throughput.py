"""Throughput by value, on a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.callbacks import throughput
from src.callbacks.throughput import Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.device = torch.device("cpu")
        self.logged: dict[str, float] = {}

    def log(self, name: str, value: float, **_: Any) -> None:
        self.logged[name] = value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock.now)
    return clock


def trainer(step: int, ranks: int = 1) -> Any:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=step))
    return SimpleNamespace(world_size=ranks, log_every_n_steps=2, fit_loop=loop)


def test_images_per_second_and_the_share_of_waiting(clock: Clock) -> None:
    callback, batch = Throughput(), (torch.zeros(3), SimpleNamespace(indices=torch.arange(4)))
    callback.on_train_start(trainer(0), clock)  # type: ignore[arg-type]
    for step in range(2):
        callback.on_train_batch_start(trainer(step, 2), clock, batch, step)  # type: ignore[arg-type]
        clock.now += 3.0  # the step
        callback.on_train_batch_end(trainer(step, 2), clock, None, batch, step)  # type: ignore[arg-type]
        assert bool(clock.logged) == (step == 1)
        clock.now += 2.0  # the wait for the next batch, of which the second falls into the next window
    assert clock.logged == {"train/images_per_second": 2 * 2 * 4 / 8.0, "train/data_share": 2.0 / 8.0}


def test_a_validation_is_not_waiting(clock: Clock) -> None:
    callback, batch = Throughput(), (SimpleNamespace(indices=torch.arange(4)),)
    for step in range(2):
        callback.on_train_batch_start(trainer(step), clock, batch, step)  # type: ignore[arg-type]
        clock.now += 1.0
        callback.on_train_batch_end(trainer(step), clock, None, batch, step)  # type: ignore[arg-type]
        callback.on_validation_start(trainer(step), clock)  # type: ignore[arg-type]
        clock.now += 60.0
    assert clock.logged == {"train/images_per_second": 4.0, "train/data_share": 0.0}


def test_a_loader_that_waits_while_kernels_run_costs_a_gpu_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is given 3 s of work by a host that needs 1 s for it, and then 1, 5 s for the next batch."""

    class Event:
        """Reached when the device has done what was queued before it."""

        free = 0.0  # when the device will be

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            Event.free = self.at = max(Event.free, clock.now)

        def synchronize(self) -> None:
            clock.now = max(clock.now, self.at)

        def elapsed_time(self, other: Event) -> float:
            return 1e3 * (other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock.device = torch.device("cuda")
    callback, batch = Throughput(), (SimpleNamespace(indices=torch.arange(4)),)
    for step, loading in enumerate((1.0, 5.0, 0.0)):
        now = trainer(step)
        now.log_every_n_steps = 3
        callback.on_train_batch_start(now, clock, batch, step)  # type: ignore[arg-type]
        Event.free = max(Event.free, clock.now) + 3.0  # kernels
        clock.now += 1.0  # the host starts them
        callback.on_train_batch_end(now, clock, None, batch, step)  # type: ignore[arg-type]
        clock.now += loading
    # kernels from 100 to 103 and 106, as the second batch is there at 102; then the third comes at 108, for 3 s of them
    assert clock.logged == {"train/images_per_second": 12 / 11, "train/data_share": 2 / 11}


def test_a_batch_without_indices_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="tuple has no tensor `indices`"):
        Throughput().on_train_batch_end(trainer(0), clock, None, (torch.zeros(3),), 0)  # type: ignore[arg-type]
