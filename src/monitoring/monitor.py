"""Monitor a pre-training's features while it runs."""

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from src.core.errors import UserError
from src.monitoring.feature_metrics import FeatureMetrics, MetricPair, Sample
from src.pretraining import ContinualPretraining
from src.pretraining.consistency import Objective


def pretrains(module: LightningModule) -> TypeGuard[ContinualPretraining]:
    """Return whether a module is a continual pre-training."""
    return isinstance(module, ContinualPretraining)


@runtime_checkable
class GivesSample(Protocol):
    """A data module with a fixed sample to measure on (`datamodules.base.DomainDataModule`)."""

    def monitor_sample(self, images: int, labelled: int) -> Any:
        """A `Sample`: `images` images as views, `labelled` with masks where there are any."""


class Monitor(Callback):
    """Measure the teacher's backbone and the frozen one, every n steps and at the end (docs/monitoring.md).

    Logs `monitor/<name>` and `monitor/<name>/frozen` (see `FeatureMetrics`), and `monitor/share`, its own part of the
    run's time. The adapter is measured as it learns, at full strength, whatever the `strength` at which it is saved. If
    checks would take more than `max_share` of the estimated run time, there are fewer of them, evenly spread. The first
    rank measures and broadcasts; no random number is drawn from a shared generator, so a run's losses are the same
    without it.

    Args:
        every_n_steps: Optimiser steps between two checks; None for a twentieth of the run (our choice); 0 turns it off.
        images: Training images whose two views are measured (our choice).
        labelled: Training images whose masks are used, if there are masks (our choice).
        max_share: Largest share of the run time for checks, 1 for no limit; a run too short for the first and the last
            check exceeds it, and so may one that ends early.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self, every_n_steps: int | None = None, images: int = 16, labelled: int = 36, max_share: float = 0.05
    ) -> None:
        if (every_n_steps or 0) < 0 or images < 2 or labelled < 0 or not 0 < max_share <= 1:
            raise UserError(
                f"monitor: every_n_steps {every_n_steps}, images {images}, labelled {labelled}, max_share {max_share}; "
                "expected 0 or more, at least 2, 0 or more, and a share in (0, 1]"
            )
        self.every_n_steps = every_n_steps
        self.images = images
        self.labelled = labelled
        self.max_share = max_share
        self.signs: dict[str, MetricPair] = {}  # of the last check; the same on all ranks
        self.step = -1  # optimiser steps done at the last check
        self.active = False
        self._vital: FeatureMetrics | None = None
        self._every = self._next = self._last = self._total = 0
        self._hastened: int | None = None  # step of a check that is due at any cost
        self._spent = self._cost = 0.0  # seconds, of all checks and of the last one
        self._began: float | None = None
        self._earlier = 0.0  # seconds that the run took before it was resumed

    @property
    def share(self) -> float:
        """Share of the run time so far, resumed parts included; valid on the first rank."""
        return self._spent / max(self._elapsed, 1e-9)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.active = False
        if self.every_n_steps == 0 or trainer.fast_dev_run or not pretrains(pl_module):  # type: ignore[attr-defined]
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, GivesSample):
            rank_zero_warn(
                f"not monitored: {type(data).__name__} has no monitor_sample(images, labelled) to measure on"
            )
            return
        self.active = True
        self._began, self._total = time.monotonic(), pl_module.total_steps
        self._last = min(max(self.step, 0), trainer.global_step)  # a resumed run keeps its schedule
        self._every = self.every_n_steps or max(1, self._total // 20)
        if trainer.global_step == 0:  # whatever an earlier fit has found
            self._hastened = None
        self._next = self._hastened or self._last + self._every
        if trainer.is_global_zero:
            sample: Sample = data.monitor_sample(self.images, self.labelled)
            classes = None if sample.bank is None else (data.num_classes, data.ignore_index)  # type: ignore[attr-defined]
            with trainer.precision_plugin.forward_context():
                self._vital = FeatureMetrics(pl_module.teacher.network.backbone, sample, classes)
            self._cost = time.monotonic() - self._began
            self._spent += self._cost

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self.active or step < self._next or step == self.step:
            return
        if self._hastened is None:
            self._next = trainer.strategy.broadcast(self._affordable(step))
        if step >= self._next:
            self._check(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.active:
            return
        if self.step != trainer.global_step:
            self._check(trainer, pl_module)
        if self.share > self.max_share:
            rank_zero_info(
                f"the monitor took {self.share:.0%} of this short run's time, more than monitor.max_share "
                f"{self.max_share:.0%}: every run measures at least the frozen backbone and its end"
            )
        self._vital = None

    def hasten(self, step: int) -> None:
        """Schedule another check soon after `step`, at any cost, because of a possible fault."""
        self._next = self._hastened = step + max(1, self._every // 4)

    def state_dict(self) -> dict[str, Any]:
        signs = {name: list(sign) for name, sign in self.signs.items()}
        times = {"spent": self._spent, "elapsed": self._elapsed}
        return {"step": self.step, "signs": signs, **times, "hastened": self._hastened}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self._spent, self._earlier = state_dict["step"], state_dict["spent"], state_dict["elapsed"]
        self.signs = {name: MetricPair(*values) for name, values in state_dict["signs"].items()}
        self._hastened = state_dict.get("hastened")  # missing in earlier checkpoints

    @property
    def _elapsed(self) -> float:
        return self._earlier + (0.0 if self._began is None else time.monotonic() - self._began)

    def _affordable(self, step: int) -> int:
        """Step of the next check, with the affordable checks spread evenly over the rest of the run."""
        if self.max_share == 1:
            return step
        training = (self._elapsed - self._spent) * self._total / step  # seconds of the whole run without checks
        left = training * self.max_share / (1 - self.max_share) - self._spent
        count = int(left / max(self._cost, 1e-9)) - 1  # besides the last one; only the first rank knows the cost
        if count < 1:
            return self._total
        return self._last + max(self._every, math.ceil((self._total - self._last) / (count + 1)))

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert pretrains(pl_module)
        if self._vital is not None:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # do not count steps that are still running
            began = time.monotonic()
            temperature = pl_module.optimisation.teacher_temperature_at(trainer.global_step, pl_module.total_steps)
            with trainer.precision_plugin.forward_context():
                objectives = cast(Mapping[str, Objective], pl_module.objectives)
                self.signs = self._vital.measure(pl_module.teacher.network, objectives, temperature)
            self._cost = time.monotonic() - began
            self._spent += self._cost
        self.signs = trainer.strategy.broadcast(self.signs)
        self.step = self._last = trainer.global_step
        self._next, self._hastened = self.step + self._every, None
        values = {f"monitor/{name}": sign.adapted for name, sign in self.signs.items()}
        values |= {f"monitor/{name}/frozen": sign.frozen for name, sign in self.signs.items()}
        for logger in trainer.loggers:  # self.log would drop values between logging steps
            logger.log_metrics({**values, "monitor/share": self.share}, step=self.step - 1)  # Lightning counts from 0
