"""LightningModule whose checkpoints record their backbone, adapter and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn

from src.backbones.backbone import Backbone
from src.backbones.frozen import check_loaded_keys, trainable_state
from src.backbones.identity import adapter_record, identity
from src.segmentation.head_checkpoint import (
    bring_adapter,
    check_backbone,
    check_classes,
    check_finite,
    check_recorded,
    versions,
    warn_of_setting,
)


class RecordedHead(LightningModule):
    """A head on a backbone's features with a self-contained checkpoint (`src.segmentation.head_checkpoint`).

    Args:
        backbone: Gives the features; with the configuration's adapter, if any.
    """

    num_classes: int
    class_names: list[str]

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold no frozen tensors; on_load_checkpoint checks their keys
        self.backbone = backbone
        self.adapter_record = adapter_record(backbone)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen tensors out; record backbone, adapter and classes."""
        checkpoint["state_dict"] = trainable_state(self, checkpoint["state_dict"])
        checkpoint["backbone"] = identity(self.backbone)
        checkpoint["adapter"] = self.adapter_record
        checkpoint["classes"] = {"ids": self._class_ids, "names": self._class_names}
        checkpoint["input_size"] = self._input_size
        checkpoint["versions"] = versions()

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Install the head's own adapter; refuse a checkpoint that does not fit, or holds NaN.

        Raises:
            UserError: With both weights, adapters or classes, or the keys that do not fit.
        """
        check_recorded(checkpoint)
        check_backbone(checkpoint, self.backbone)
        resumes = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING
        if bring_adapter(checkpoint, self.backbone, self.adapter_record, resumes):
            self.adapter_installed()
        self.adapter_record = checkpoint["adapter"]
        self._check_classes(checkpoint["classes"])
        check_loaded_keys(self, checkpoint["state_dict"])
        check_finite(checkpoint["state_dict"])
        warn_of_setting(checkpoint, self._input_size)

    def adapter_installed(self) -> None:
        """Select the trainable parts after a checkpoint's adapter is installed; by default none of the backbone."""
        self.backbone.requires_grad_(False).eval()

    @property
    def _data(self) -> Any:
        """The run's data module, or None."""
        data = None if self._trainer is None else self._trainer.datamodule  # type: ignore[attr-defined]
        return getattr(data, "inner", data)  # of cached features

    @property
    def _class_ids(self) -> list[int]:
        """The classes' ids in the data's masks; 0, 1, … without data."""
        ids = getattr(self._data, "class_ids", None) or getattr(self._data, "ids", None)
        return list(range(self.num_classes)) if ids is None else list(ids)

    @property
    def _class_names(self) -> list[str]:
        """The names of the data's classes, by which a resumed fit knows them again; the model's without data."""
        names = getattr(self._data, "class_names", None)
        return list(self.class_names if names is None else names)

    @property
    def _input_size(self) -> list[int] | None:
        """(height, width) that images are resized to; None if the data does not define it."""
        size = getattr(self._data, "size", None)
        return None if size is None else [size, size] if isinstance(size, int) else list(size)

    def _check_classes(self, made_for: Mapping[str, Any]) -> None:
        if hasattr(self._data, "expect_classes"):
            self._data.expect_classes(list(made_for["ids"]), list(made_for["names"]))
        check_classes(made_for, self._class_ids, self._class_names)
