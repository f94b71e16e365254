"""Stop a pre-training that harms its backbone, keeping the last good adapter."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import UserError
from src.core.json_files import write_json
from src.monitoring.health_checks import (
    RETAINED,
    STRUCTURE_MARGIN,
    collapsed,
    forgotten,
    harmed,
    narrowed,
    not_finite,
    spiked,
    uninformative,
    unstructured,
)
from src.monitoring.monitor import Monitor, pretrains

HISTORY = 20  # means of the loss to compare a spike with (our choice)
SPIKE_STEPS = 10  # fewest steps in such a mean: single steps differ, as by the scales of distillation (our choice)
Guard = Literal["divergence", "spike", "collapse", "targets", "structure", "retention", "harm"]


class Kept(NamedTuple):
    """An adapter in a file: its step, and its value of the monitor `best_by` (None if not measured)."""

    step: int
    value: float | None


class Guards(Callback):
    """Warns about a harmful run, and stops it if the fault persists (docs/monitoring.md).

    | guard | fires when |
    | --- | --- |
    | divergence | loss or features are NaN or infinite: at once, whatever the patience |
    | spike | the loss is above `spike` times its median |
    | collapse | a rank is below `rank_share` of the frozen one; every level's targets use one prototype, or are uniform
    | | collapse | every informed level uses less than `usage_share` of the prototypes that frozen targets use |
    | targets | every level's targets are within `informs` nats of their own mean |
    | structure | dense structure is below the frozen one's by more than `structure_margin`, interval included |
    | retention | less than `retained` of the frozen features can be recovered (`evaluation/retention.py`) |
    | harm | `knn`, or the monitor named by `best_by`, is more than `harm_margin` below its frozen value |

    The loss is judged as the mean of each `log_every_n_steps` steps, a spike over ten steps at least, the rest at each
    check of the monitor; all but NaN after the warm-up. A first finding warns; one that persists for `patience`
    judgements (harm, retention, structure: `harm_patience`) stops the fit, which ends normally, with exit code 0, and
    `adapter.safetensors` from the last check without a finding (before the first one, the untrained adapter, equal to
    the frozen model). Findings are in `guards.json`. `adapter-best.safetensors` is the adapter of the check with the
    best `best_by`.

    Args:
        rank_share: Smallest share of the frozen rank that does not count as collapse (our choice).
        uniform: Share of log K from which a level's entropy is that of uniform targets (our choice).
        spike: Largest multiple of the median loss that does not count as a spike (our choice).
        harm_margin: In units of the monitor; 0.03 mIoU by default (our choice).
        patience: Judgements in a row (our choice); 0 warns and never stops, but for NaN.
        harm_patience: The same, for harm, retention and structure (our choice).
        best_by: The monitor, larger is better, that selects the best adapter and judges harm. None takes `knn` if there
            are masks; else `agreement`, which selects only: it may fall and recover (docs/monitoring.md).
        informs: Smallest KL divergence of targets to their own mean, in nats, that counts as informative (our choice).
        usage_share: Smallest acceptable share of the prototypes that the frozen targets use (our choice).
        structure_margin: In units of dense structure, which is about 1; None does not judge it. Our choice, wide since
            structure also falls in runs that help, and rises in destroyed features (docs/did-it-help.md).
        retained: Smallest acceptable share of the frozen features' own retention (our choice).

    Raises:
        UserError: If a number is out of range; or, at the first check, if `best_by` needs masks and there are none.
    """

    def __init__(
        self,
        rank_share: float = 0.25,
        uniform: float = 0.9995,
        spike: float = 1.5,
        harm_margin: float = 0.03,
        patience: int = 2,
        harm_patience: int = 3,
        best_by: Literal["knn", "probe", "agreement", "rank/cls", "rank/patches"] | None = None,
        informs: float = 0.05,
        usage_share: float = 0.1,
        structure_margin: float | None = STRUCTURE_MARGIN,
        retained: float = RETAINED,
    ) -> None:
        if not 0 <= rank_share < 1 or not 0 < uniform <= 1 or spike <= 1 or min(patience, harm_patience) < 0:
            raise UserError(
                f"guards: rank_share {rank_share}, uniform {uniform}, spike {spike}, patience {patience}, "
                f"harm_patience {harm_patience}; expected shares of 1, a spike above 1 and patience of 0 or more"
            )
        if (
            min(informs, structure_margin or 0) < 0
            or not 0 <= min(usage_share, retained) <= max(usage_share, retained) < 1
        ):
            raise UserError(
                f"guards: informs {informs}, structure_margin {structure_margin}, usage_share {usage_share}, retained "
                f"{retained}; expected 0 or more, and shares below 1"
            )
        self.rank_share = rank_share
        self.uniform = uniform
        self.spike = spike
        self.harm_margin = harm_margin
        self.patience: dict[Guard, int] = {
            "divergence": 1, "spike": patience, "collapse": patience, "targets": patience, "structure": harm_patience,
            "retention": harm_patience, "harm": harm_patience,
        }  # fmt: skip
        self.best_by = best_by
        self.informs = informs
        self.usage_share = usage_share
        self.structure_margin = structure_margin
        self.retained = retained
        self.good, self.best = Kept(0, None), Kept(0, None)
        self.stopped: str | None = None  # why
        self.warnings: list[str] = []
        self._in_a_row: dict[Guard, int] = dict.fromkeys(self.patience, 0)
        self._losses: list[float] = []
        self._part: list[float] = []  # means of windows that together are not long enough to be judged for a spike
        self._window: Tensor | None = None  # sum of the losses since the last judgement
        self._windowed = 0  # batches in it
        self._since: int | None = None  # optimiser steps at that judgement
        self._judged = -1  # step of the last check of the monitor that was judged

    @property
    def saved(self) -> str:
        """The adapter that a stopped run leaves, in words."""
        if self.good.step == 0:
            return "no check was good: the saved adapter is untrained, equal to the frozen model"
        return f"saved adapter: step {self.good.step} (last good check)"

    @staticmethod
    def good_file(run_folder: str | Path) -> Path:
        """The adapter of the last check without a finding, while a fit runs."""
        return Path(run_folder) / "checkpoints" / "adapter-good.safetensors"

    @staticmethod
    def best_file(run_folder: str | Path) -> Path:
        """The adapter of the best check."""
        return Path(run_folder) / "adapter-best.safetensors"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stopped = None
        if self._since is None or self._since > trainer.global_step:
            self._since = trainer.global_step
        good = self.good_file(trainer.default_root_dir)
        if self._watches(trainer, pl_module) and (trainer.global_step == 0 or not good.exists()):
            self.good = _keep(trainer, good, None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._watches(trainer, pl_module):
            return
        # of which Lightning gives a share; stays on the device until the window ends: reading it waits for the step
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._window = loss if self._window is None else self._window.to(loss.device) + loss
        self._windowed += 1
        assert self._since is not None
        if trainer.global_step - self._since >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            mean = trainer.strategy.reduce(self._window / self._windowed, reduce_op="mean")  # the same on all ranks
            self._window, self._windowed, self._since = None, 0, trainer.global_step
            self._judge_loss(trainer, float(mean))
        self._judge_signs(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._watches(trainer, pl_module):
            self._judge_signs(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace a broken adapter by the last good one, after every callback has written its files."""
        if not self._watches(trainer, pl_module) or not trainer.is_global_zero:
            return
        good, best = self.good_file(trainer.default_root_dir), self.best_file(trainer.default_root_dir)
        if self.stopped is not None or self.warnings:
            self._write(Path(trainer.default_root_dir) / "guards.json")
        if self.stopped is None:
            good.unlink(missing_ok=True)
            return
        partial = Path(trainer.default_root_dir) / "partial-adapter.safetensors"
        shutil.copyfile(good, partial)  # the good one is kept for a resume, whose state is the broken one
        os.replace(partial, Path(trainer.default_root_dir) / "adapter.safetensors")
        kept = self.saved
        if best.exists():
            kept += f"; {best.name}: step {self.best.step}"
        print(f"{self.stopped}; {kept}. What to do: docs/monitoring.md", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {
            "good": list(self.good),
            "best": list(self.best),
            "stopped": self.stopped,
            "warnings": list(self.warnings),
            "in_a_row": dict(self._in_a_row),
            "losses": list(self._losses),
            "part": list(self._part),
            "window": None if self._window is None else float(self._window),
            "windowed": self._windowed,
            "since": self._since,
            "judged": self._judged,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.good, self.best = Kept(*state_dict["good"]), Kept(*state_dict["best"])
        self.stopped, self.warnings = state_dict["stopped"], list(state_dict["warnings"])
        self._in_a_row |= state_dict["in_a_row"]  # missing in a checkpoint from before the guard existed
        self._losses, self._part = list(state_dict["losses"]), list(state_dict.get("part", []))
        window, self._windowed = state_dict["window"], state_dict["windowed"]
        self._window = None if window is None else torch.tensor(window)
        self._judged, self._since = state_dict.get("judged", -1), state_dict.get("since")  # missing in earlier ones

    def _judge_loss(self, trainer: Trainer, loss: float) -> None:
        """Judge the mean of a window of `log_every_n_steps` steps, and for a spike that of enough windows."""
        found: dict[Guard, str | None] = {"divergence": not_finite(loss, {})}
        self._part.append(loss)
        if found["divergence"]:
            found["spike"], self._part = found["divergence"], []
        elif len(self._part) * trainer.log_every_n_steps >= SPIKE_STEPS:  # type: ignore[attr-defined]
            mean = sum(self._part) / len(self._part)
            found["spike"] = spiked(mean, self._losses, self.spike)
            self._losses, self._part = [*self._losses, mean][-HISTORY:], []
        self._judge(trainer, found)

    def _judge_signs(self, trainer: Trainer) -> None:
        """Judge the monitor's last check, once."""
        monitor = next((callback for callback in trainer.callbacks if isinstance(callback, Monitor)), None)  # type: ignore[attr-defined]
        if monitor is None or not monitor.active or monitor.step in (self._judged, -1):
            return
        self._judged, signs = monitor.step, monitor.signs
        by = self.best_by or ("knn" if "knn" in signs else "agreement")
        if by not in signs:
            raise UserError(f"guards.best_by {by}: this data set has no masks to measure it with; use agreement")
        found: dict[Guard, str | None] = {
            "divergence": not_finite(None, signs),
            "collapse": collapsed(signs, self.rank_share, self.uniform) or narrowed(signs, self.usage_share),
            "targets": uninformative(signs, self.informs),
            "structure": None if self.structure_margin is None else unstructured(signs, self.structure_margin),
            "retention": forgotten(signs, self.retained),
            "harm": harmed(signs, by, self.harm_margin) if self.best_by or by == "knn" else None,
        }
        if self._judge(trainer, found):
            monitor.hasten(trainer.global_step)
        elif not any((*found.values(), *self._in_a_row.values())):  # no finding, not even within the warm-up
            value = signs[by].adapted
            self.good = _keep(trainer, self.good_file(trainer.default_root_dir), value)
            if self.best.value is None or value > self.best.value:
                self.best = _keep(trainer, self.best_file(trainer.default_root_dir), value)

    def _judge(self, trainer: Trainer, found: Mapping[Guard, str | None]) -> bool:
        """Warn about findings, or stop; return True if there are any."""
        module = trainer.lightning_module
        assert pretrains(module)
        early = trainer.global_step < round(module.optimisation.warmup * module.total_steps)
        counted = {guard: reason for guard, reason in found.items() if guard == "divergence" or not early}
        for guard, reason in counted.items():
            self._in_a_row[guard] = 0 if reason is None else self._in_a_row[guard] + 1
            if reason is None or self.stopped is not None:
                continue
            said = f"step {trainer.global_step} of {module.total_steps}, {guard}: {reason}"
            if 0 < self.patience[guard] <= self._in_a_row[guard]:
                self.stopped = f"stopped at {said}"
                trainer.should_stop = True
            elif self._in_a_row[guard] == 1:
                self.warnings.append(said)
                if trainer.is_global_zero:
                    print(f"warning: {said}", file=sys.stderr, flush=True)
        if any(counted.values()) and trainer.is_global_zero:
            self._write(Path(trainer.default_root_dir) / "guards.json")
        return any(counted.values())

    def _write(self, path: Path) -> None:
        """Write the findings so far, and the steps of the kept adapters."""
        kept = {"last_good": self.good._asdict(), "best": self.best._asdict()}
        content = {"stopped": self.stopped, "warnings": self.warnings, **kept}
        write_json(path, content)

    @staticmethod
    def _watches(trainer: Trainer, pl_module: LightningModule) -> bool:
        return pretrains(pl_module) and not trainer.fast_dev_run  # type: ignore[attr-defined]


def _keep(trainer: Trainer, path: Path, value: float | None) -> Kept:
    """Write the adapter of this step."""
    module = trainer.lightning_module
    assert pretrains(module)
    if trainer.is_global_zero:
        module.save_adapter(path)
    return Kept(trainer.global_step, value)
