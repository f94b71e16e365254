"""Optimisation of continual pre-training, as functions of the step (docs/method.md, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from src.core.numbers import check_number
from src.core.schedules import auto_momentum, cosine, linear, warmup_cosine


@dataclass(frozen=True)
class Optimisation:
    """Settings of docs/method.md, section 9; steps are optimiser steps.

    Attributes:
        lr: Peak learning rate; 5e-4 is UDI's and DINO's, for a global batch of `lr_batch`.
        lr_batch: The rate is scaled by (global batch / this), as UDI does with 256; None uses `lr` unscaled.
        final_lr: Rate at the last step; 1e-6 as in DINO, UDI's is 1e-5.
        warmup: Share of the steps in which the rate rises.
        weight_decay: At the first and at the last step, with a cosine in between.
        clip: Largest norm of the gradient of all parameters together; UDI clips each tensor by itself.
        head_warmup: Share of the steps in which only head and context learn. Our choice: published backbones lack their
            heads, and a random head sends noise into the adapters.
        freeze_last_layer: Epochs in which the head's prototypes are fixed; 1 is UDI's.
        freeze_share: The same as a share of the steps; the shorter of the two applies. 5 % is our choice: in runs of
            less than an epoch the prototypes would never learn.
        momentum: Start value of the teacher's momentum; None (our choice) is 0.996, and less for short runs.
        student_temperature: Temperature of the student's softmax.
        teacher_temperature: Temperature of the teacher's, at the first step and after `temperature_warmup`.
        temperature_warmup: Share of the steps in which the teacher's temperature rises; UDI's 30 epochs are 10 % of
            its 300.

    Raises:
        UserError: If a number is not finite or out of its range.
    """

    lr: float = 5e-4
    lr_batch: int | None = 256
    final_lr: float = 1e-6
    warmup: float = 0.1
    weight_decay: tuple[float, float] = (0.04, 0.1)
    clip: float = 3.0
    head_warmup: float = 0.05
    freeze_last_layer: int = 1
    freeze_share: float = 0.05
    momentum: float | None = None
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    temperature_warmup: float = 0.3

    def __post_init__(self) -> None:
        for name in ("lr", "final_lr", "freeze_last_layer"):
            check_number(f"optimisation.{name}", getattr(self, name))
        for name in ("warmup", "head_warmup", "freeze_share", "temperature_warmup"):
            check_number(f"optimisation.{name}", getattr(self, name), most=1)
        for name, value in (("clip", self.clip), ("student_temperature", self.student_temperature)):
            check_number(f"optimisation.{name}", value, open_left=True)
        for value in self.weight_decay:
            check_number("optimisation.weight_decay", value)
        for value in self.teacher_temperature:
            check_number("optimisation.teacher_temperature", value, open_left=True)
        if self.momentum is not None:
            check_number("optimisation.momentum", self.momentum, most=1)
        if self.lr_batch is not None:
            check_number("optimisation.lr_batch", self.lr_batch, least=1)

    def learning_rate(self, step: int, steps: int, batch: int) -> float:
        """Learning rate of a step of `batch` images, over all ranks and accumulated batches."""
        return warmup_cosine(step, steps, round(self.warmup * steps), self.peak_rate(batch), self.final_lr)

    def peak_rate(self, batch: int) -> float:
        """Peak learning rate for steps of `batch` images, over all ranks and accumulated batches."""
        return self.lr if self.lr_batch is None else self.lr * batch / self.lr_batch

    def decay(self, step: int, steps: int) -> float:
        """Weight decay at a step."""
        return cosine(step, steps, *self.weight_decay)

    def teacher_momentum(self, step: int, steps: int) -> float:
        """Momentum m of the update after a step."""
        return cosine(step, steps, auto_momentum(steps) if self.momentum is None else self.momentum, 1.0)

    def teacher_temperature_at(self, step: int, steps: int) -> float:
        """Teacher temperature τ_t at a step."""
        return linear(step, round(self.temperature_warmup * steps), *self.teacher_temperature)

    def heads_only(self, step: int, steps: int) -> bool:
        """Return whether only the heads learn at this step."""
        return step < round(self.head_warmup * steps)

    def prototypes_frozen(self, epoch: int, step: int, steps: int) -> bool:
        """Return whether the head's last layer is fixed: in the first epoch, or the first share of the steps."""
        return epoch < self.freeze_last_layer and step < round(self.freeze_share * steps)
