"""GLARE's continual self-supervised pre-training as a LightningModule (arXiv 2509.17816).

Equations, defaults and their sources: docs/method.md, sections 2 to 9.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from datamodules.views import Crops, check_crops
from src.backbones.adapters import Adapter, UniAdapter
from src.backbones.backbone import Backbone
from src.backbones.base_model import base_model
from src.backbones.frozen import check_loaded_keys, frozen_buffers, trainable_state
from src.backbones.images import check_range
from src.backbones.parameter_groups import parameter_groups
from src.core.bfloat16 import warn_of_emulation
from src.core.distributed import logs_this_step, mean_of_ranks
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.core.numbers import check_number
from src.core.schedules import planned_steps
from src.pretraining.acceleration import Acceleration
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.calibration import IMAGES, Calibration, GivesCleanViews, calibration
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, LossOutput, Objective, RegionalConsistency
from src.pretraining.head import Head
from src.pretraining.network import Network
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, PatchAugmentation
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.regions import RegionalAttention
from src.pretraining.teacher import Teacher


class ContinualPretraining(LightningModule):
    """Adapts a frozen backbone to a new domain through its adapters, from images alone.

    Args:
        backbone: The ViT to adapt; frozen except for what `adapter` adds or marks.
        adapter: Kind of trainable parameters.
        head: Builds the projection head for the backbone's width.
        objectives: Terms of the total loss by name; GLARE's three levels if None.
        patch_augmentation: Distortion of the student's input.
        optimisation: Learning rate, momentum and temperatures.
        seed: Seed of the keyed draws (patches, regions); the data module's seed keys the crops.
        acceleration: Speed and memory options.
        init_head: Start student and teacher from the projection head in the backbone's checkpoint (DINO, iBOT, UDI).
        strength: Interpolation between frozen (0) and adapted (1) weights in saved adapters. Our choice; below 1 it
            averages both (Wortsman et al. 2022), which keeps more of the frozen model's knowledge.

    Raises:
        UserError: If nothing would learn, or the backbone lacks the requirements of an argument.
    """

    config_hash = ""  # hash of the run's configuration, set by the command line

    def __init__(
        self,
        backbone: Backbone,
        adapter: Adapter = UniAdapter(),
        head: Callable[[int], Head] = ProjectionHead,
        objectives: dict[str, Objective] | None = None,
        patch_augmentation: PatchAugmentation = Blur(),
        optimisation: Optimisation = Optimisation(),
        acceleration: Acceleration = Acceleration(),
        seed: int = 0,
        init_head: bool = False,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        check_number("strength", strength, most=1, open_left=True)
        self._range_seen = False
        self.strict_loading = False  # checkpoints hold no frozen tensors; on_load_checkpoint checks their keys
        self.optimisation = optimisation
        self.acceleration = acceleration
        self.patch_augmentation = patch_augmentation
        self.seed = seed
        glare = {"global": GlobalConsistency(), "regional": RegionalConsistency(), "local": LocalConsistency()}
        levels: dict[str, Objective] = {**glare} if objectives is None else objectives
        for name, level in levels.items():
            check_number(f"objectives.{name}.weight", level.weight)
        active = {name: level for name, level in levels.items() if level.weight != 0}
        self.objectives = nn.ModuleDict(active)
        if not active:
            found = "every objective has weight 0" if levels else "objectives is empty"
            raise UserError(f"{found}: nothing to learn; leave objectives out for GLARE's three, or give one a weight")
        if self._any("needs_second_class_token") and not backbone.second_class_token:
            raise UserError(f"{backbone.name} has no second class token, as UDI's weights do; set that weight to 0")
        self.adapter_report = backbone.install(adapter)
        self.strength = strength
        backbone.adapter_tensors(strength)  # refuses a kind that cannot be saved at this strength before training
        projection = head(backbone.width)
        if init_head:
            projection.load_published(backbone.published_head())
        if self._any("needs_whitening") and not isinstance(projection, CalibratedHead):
            raise UserError(
                "an objective compares whitened tokens, and a head without the domain's statistics was given; use "
                "head.class_path src.pretraining.calibrated_head.CalibratedHead, or set that objective's weight to 0"
            )
        if not self._any("needs_head"):
            projection.requires_grad_(False)  # DDP waits for a gradient of every trainable parameter
        context = RegionalAttention(backbone.width) if self._any("needs_context") else None
        self.student = Network(backbone, projection, context)
        self.teacher = Teacher(self.student)
        for objective in active.values():
            objective.build(len(projection.weight), backbone.width)

    def setup(self, stage: str) -> None:
        """Check the precision before anything is computed, and build the parts that depend on the data.

        Raises:
            UserError: If weights would be stored in 16 bits, which would round the adapters' small steps to zero.
        """
        if self.trainer.precision in ("16-true", "bf16-true"):
            raise UserError(
                f"trainer.precision {self.trainer.precision}: pre-training keeps its weights in 32 bits, since small "
                "steps and the teacher's average would round to nothing in 16; use bf16-mixed"
            )
        warn_of_emulation(self.trainer.precision, self.trainer.strategy.root_device.type)
        for objective in self.objectives.values():
            assert isinstance(objective, Objective)
            objective.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def training_step(self, crops: Crops, batch_idx: int) -> Tensor:
        """Loss of a batch (docs/method.md, sections 3 to 8)."""
        random = KeyedRandom(self.seed, crops.epoch, crops.indices)
        batch = self.patch_augmentation(crops, self.student.backbone.patch_size, random, self.global_step)
        local_images = None if batch.local_views is None else batch.local_views.images
        temperature = self.optimisation.teacher_temperature_at(self.global_step, self.total_steps)
        teacher = self.teacher(
            batch.clean.images, temperature, self._any("needs_attention"), features=self._any("needs_teacher")
        )
        student = self.student(
            batch.distorted.images,
            self.optimisation.student_temperature,
            local_images=local_images,
            backbone_learns=not self.optimisation.heads_only(self.global_step, self.total_steps),
        )
        described = logs_this_step(self.trainer)
        terms = {
            name: objective(student, teacher, batch, random, described) for name, objective in self.objectives.items()
        }
        loss = sum(self.objectives[name].weight * term.loss for name, term in terms.items())
        self._log(loss, terms, len(crops.indices))
        return loss

    def on_fit_start(self) -> None:
        """Apply the acceleration options."""
        self.acceleration.prepare(self.student.backbone, self.teacher.network.backbone, self.device)

    def configure_optimizers(self) -> Optimizer:
        """AdamW over adapters, context and head; learning rate and weight decay are set at each step."""
        fused = self.acceleration.fuses(self.device, self.trainer.precision) if self._trainer is not None else False
        return torch.optim.AdamW(parameter_groups(self), lr=0.0, betas=(0.9, 0.999), fused=fused)

    def on_train_start(self) -> None:
        """Calibrate the head before the first step (docs/method.md, section 12).

        A resumed run has it from its checkpoint. From here on image values are no longer checked, which would
        synchronise with the device at each step.
        """
        if isinstance(self.student.head, CalibratedHead) and not self.student.head.calibrated:
            values = self.trainer.strategy.broadcast(self._calibration(self.student.head))
            assert values is not None
            for network in (self.student, self.teacher.network):
                assert isinstance(network.head, CalibratedHead)
                network.head.calibrate(*values)
        for network in (self.student, self.teacher.network):
            network.backbone.checks_range = False
        self._range_seen = False

    def on_train_batch_start(self, crops: Crops, batch_idx: int) -> None:
        """Set learning rate and weight decay for this step.

        Raises:
            UserError: If the loader gives other batches than `Crops`, or the first batch's values are not RGB.
        """
        check_crops(crops)
        if not self._range_seen:  # from a custom loader; only once, since it synchronises with the device
            for views in filter(None, (crops.global_views, crops.local_views)):
                check_range(views.images)
            self._range_seen = True
        batch = len(crops.indices) * self.trainer.world_size * self.trainer.accumulate_grad_batches
        rate = self.optimisation.learning_rate(self.global_step, self.total_steps, batch)
        decay = self.optimisation.decay(self.global_step, self.total_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"], group["weight_decay"] = rate, decay * group["decayed"]
        if logs_this_step(self.trainer):
            self.log("train/lr", rate)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: object, **__: object) -> None:
        """Drop gradients of parameters that do not learn yet, then clip the rest together."""
        if self.optimisation.heads_only(self.global_step, self.total_steps):
            _drop_gradients(self.student.backbone)
        if self.optimisation.prototypes_frozen(self.current_epoch, self.global_step, self.total_steps):
            _drop_gradients(self.student.head.prototypes)
        # not Lightning's own clipping, which refuses the fused AdamW with bf16-mixed, where no gradient is scaled
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.optimisation.clip)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """One optimiser step of the student, then an update of its moving average."""
        momentum = self.optimisation.teacher_momentum(self.global_step, self.total_steps)
        super().optimizer_step(*args, **options)
        self.teacher.update(self.student, momentum)
        if logs_this_step(self.trainer):
            self.log("train/momentum", momentum)

    def peak_rate(self, batch: int) -> float:
        """Peak learning rate for a global batch of `batch` images."""
        return self.optimisation.peak_rate(batch)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole fit."""
        return planned_steps(self.trainer.estimated_stepping_batches)

    def save_adapter(self, path: str | Path) -> None:
        """Write the teacher's adapter (docs/method.md, section 10) to `path`, at `strength`."""
        backbone = self.teacher.network.backbone
        backbone.save_adapter(path, self.global_step, "teacher", self.config_hash, self.strength)

    def adapter_facts(self) -> dict[str, str]:
        """Facts for a model card: the adapter, and the weights it was trained on."""
        backbone = self.teacher.network.backbone
        base = base_model(backbone.name, backbone.weights)
        saved = "" if self.strength == 1 else f"; saved at strength {self.strength:g}, measured at full strength"
        return {
            "backbone": backbone.name,
            "weights": base.weights,
            "repository": base.repository,
            "licence": base.licence,
            "weight_hash": backbone.weight_hash,
            "adapter": f"{self.adapter_report}{saved}",
        }

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        return frozen_buffers(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen tensors out."""
        checkpoint["state_dict"] = trainable_state(self, checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that does not fit.

        Raises:
            UserError: With the keys that do not.
        """
        check_loaded_keys(self, checkpoint["state_dict"])

    def _calibration(self, head: CalibratedHead) -> Calibration | None:
        """Computed by the first rank for all; no random number is drawn from a shared generator."""
        if not self.trainer.is_global_zero:
            return None
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, GivesCleanViews):
            views: Any = data.clean_views(IMAGES)
        else:
            views = copy.copy(self.trainer.train_dataloader)
            if isinstance(views, DataLoader):
                views._iterator = None  # a loader with persistent workers would rewind the fit's own
        with torch.random.fork_rng(devices=[]), self.trainer.precision_plugin.forward_context():
            return calibration(self.teacher.network.backbone, head, views, self.seed)

    def _log(self, loss: Tensor, terms: dict[str, LossOutput], batch_size: int) -> None:
        values = {"train/loss": loss}
        for name, term in terms.items():
            values[f"train/loss/{name}"] = term.loss
            if term.target_entropy is not None:
                values[f"train/target_entropy/{name}"] = term.target_entropy
                values[f"train/divergence/{name}"] = term.loss - term.target_entropy
        if logs_this_step(self.trainer):  # this rank's shares to values of the global batch, in one communication
            means = mean_of_ranks(torch.stack([value.detach().to(loss.dtype) for value in values.values()]))
            values = dict(zip(values, means.unbind(), strict=True))
        for name, value in values.items():
            self.log(name, value, prog_bar=name == "train/loss", batch_size=batch_size)

    def _any(self, need: str) -> bool:
        return any(getattr(objective, need) for objective in self.objectives.values())


def _drop_gradients(module: nn.Module) -> None:
    """Drop the module's gradients, so that AdamW skips it, moments and decay included.

    `requires_grad` is never toggled during a fit, which DDP does not support.
    """
    for parameter in module.parameters():
        parameter.grad = None
