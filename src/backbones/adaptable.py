"""Install, remove, disable, merge, save and load the adapter of a trunk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from src.backbones.adapter_file import read_metadata, read_tensors, write_adapter
from src.backbones.adapters.adapter import Adapter, Report
from src.backbones.adapters.kinds import class_path, read_kind, settings_text
from src.backbones.adapters.low_rank import LoRA
from src.backbones.adapters.trial import injected_twin
from src.backbones.base_model import shareable
from src.backbones.checkpoints import weight_hash
from src.backbones.checkpoints.hub import HUB, fetch_adapter
from src.backbones.peft_folder import is_peft_folder, place_updates, read_peft_folder, write_peft_folder
from src.core.errors import UserError


class Adaptable(nn.Module):
    """Module with a trunk and at most one adapter in it.

    Attributes:
        trunk: timm's VisionTransformer or Eva.
        name: Name of the trunk, for messages and files.
        weights: Source of its frozen weights.
        weight_hash: Weight hash of the trunk's frozen weights.
        positions: How position embeddings are resampled.
        adapter: The kind in the trunk, or None.
        adapter_names: Names of its parameters, as in `named_parameters()`.
        adapter_scale: Strength at which it was loaded.
        trust: Packages that may be imported for a third-party adapter kind.
    """

    trunk: Any  # timm's models carry no types
    name: str
    weights: str
    weight_hash: str
    positions: str

    def __init__(self) -> None:
        super().__init__()
        self.adapter: Adapter | None = None
        self.adapter_names: tuple[str, ...] = ()
        self.adapter_scale = 1.0
        self.trust: tuple[str, ...] = ()

    def install(self, kind: Adapter) -> Report:
        """Install adapters; from now on only their parameters train.

        Raises:
            UserError: If adapters are installed already, the kind finds nothing to adapt in this trunk or does not
                support its blocks, or it cannot be saved.
        """
        if self.adapter is not None:
            raise UserError(f"the backbone {self.name} already carries {self.adapter}; call uninstall() first")
        class_path(kind), settings_text(kind)  # refuse what cannot be saved before training
        places = kind.inject(self.trunk)
        trainable = self.trainable()
        if not places or not trainable:
            raise UserError(f"{kind} matches nothing in {self.name}; its adapter would train no parameter")
        self.adapter, self.adapter_names = kind, tuple(name for name, _ in trainable)
        counts = [sum(p.numel() for p in some) for some in ([p for _, p in trainable], self.parameters())]
        return Report(str(kind), tuple(places), *counts)

    def uninstall(self) -> None:
        """Remove the adapters: the frozen model, bit for bit."""
        if self.adapter is not None:
            self.adapter.remove(self.trunk)
            self._forget_adapter()

    def merge(self) -> None:
        """Merge the adapter into the weights: the same features from a plain timm model, and no adapter.

        This changes the weight hash, so adapters of the earlier weights no longer fit.

        Raises:
            UserError: If there is no adapter, or its kind cannot be merged.
        """
        if self.adapter is None:
            raise UserError(f"{self.name} carries no adapter to merge; load or install one first")
        self.adapter.merge(self.trunk)
        self._forget_adapter()
        self.weight_hash = weight_hash(self.trunk.state_dict())

    def reading(self) -> dict[str, str]:
        """Settings that change how the weights are read, on which an adapter depends but which the weight hash does not
        cover.

        The grid of the position table (9×16 and 12×12 have the same rows), how it is resampled, and the normalisation.
        """
        config, grid = self.trunk.pretrained_cfg, self.trunk.patch_embed.grid_size
        return {
            "position_grid": f"{grid[0]}×{grid[1]}" if getattr(self.trunk, "pos_embed", None) is not None else "",
            "positions": self.positions,
            "mean": json.dumps([float(value) for value in config["mean"]]),
            "std": json.dumps([float(value) for value in config["std"]]),
        }

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Context in which the features are those of the frozen model, bit for bit."""
        if self.adapter is None:
            yield
            return
        with self.adapter.disabled(self.trunk):
            yield

    def save_adapter(
        self,
        path: str | Path,
        step: int,
        whose: Literal["teacher", "student"],
        config_hash: str = "",
        strength: float = 1.0,
    ) -> None:
        """Write the adapter with the hash of its backbone's weights.

        Args:
            path: File to write, atomically.
            step: Optimiser steps done.
            whose: The network that this backbone belongs to.
            config_hash: Hash of its configuration, if there is one.
            strength: Fraction of the learnt change that is saved as the full adapter; see `adapter_tensors`.

        Raises:
            UserError: If there is no adapter, it is at reduced strength, or its kind cannot be saved at `strength`.
        """
        tensors = self.adapter_tensors(strength)
        assert self.adapter is not None
        metadata = {
            "backbone": self.name,
            "weights": shareable(self.weights),
            "weight_hash": self.weight_hash,
            **self.reading(),
            "adapter": class_path(self.adapter),
            "sizes": settings_text(self.adapter),
            "step": str(step),
            "whose": whose,
            "config_hash": config_hash,
        }
        if strength != 1:
            metadata["strength"] = f"{strength:g}"
        write_adapter(path, metadata, tensors)

    def adapter_tensors(self, strength: float = 1.0) -> dict[str, Tensor]:
        """The adapter's tensors by their names in the backbone, interpolated between frozen and adapted.

        Args:
            strength: 0 (frozen) to 1 (adapted). Below 1 it averages adapted and frozen weights (Wortsman et al. 2022),
                in the tensors themselves, so that loading them needs no further setting.

        Raises:
            UserError: If there is no adapter, it is at reduced strength, or its kind has no such tensors.
        """
        if self.adapter is None:
            raise UserError(f"{self.name} carries no adapter to save; install one first")
        self._require_whole()
        tensors = {name.removeprefix("trunk."): self.get_parameter(name).detach() for name in self.adapter_names}
        if strength != 1:
            tensors = self.adapter.weakened(self.trunk, tensors, strength)
        return {f"trunk.{name}": tensor for name, tensor in tensors.items()}

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[None]:
        """Context in which the adapter is what `save_adapter` writes at a strength.

        Raises:
            UserError: As `adapter_tensors`.
        """
        saved = {} if strength == 1 else self.adapter_tensors(strength)
        learnt = {name: self.get_parameter(name).detach().clone() for name in saved}
        for name, tensor in saved.items():
            self.get_parameter(name).data.copy_(tensor)
        try:
            yield
        finally:
            for name, tensor in learnt.items():
                self.get_parameter(name).data.copy_(tensor)

    def load_adapter(self, path: str | Path, adapter_scale: float = 1.0, trust: Sequence[str] = ()) -> dict[str, str]:
        """Load an adapter file; it replaces an installed adapter, which stays if the file cannot be used.

        Args:
            path: An adapter file; a folder with a LoRA in PEFT's format (`adapter_config.json`,
                `adapter_model.safetensors`) for timm's or Hugging Face's names of this ViT; or `hf://org/name`, a
                repository of the Hugging Face Hub with an adapter file.
            adapter_scale: As in `Backbone`.
            trust: Packages that may be imported for a third-party adapter kind, besides those that the backbone trusts.

        Returns:
            The file's metadata.

        Raises:
            MissingFile: If the file does not exist.
            UserError: If the file belongs to other weights, its kind is unknown or not trusted, it is damaged, or its
                tensors contradict its metadata.
        """
        _check_scale(adapter_scale)
        if str(path).startswith(HUB):
            path = fetch_adapter(str(path).removeprefix(HUB))
        if is_peft_folder(path):
            kind, tensors, metadata = self._read_peft(Path(path))
        else:
            kind, tensors, metadata = self._read_file(path, (*self.trust, *trust))
        self.uninstall()
        self.install(kind)
        for name in self.adapter_names:
            self.get_parameter(name).data.copy_(tensors[name])
        self.attenuate(adapter_scale)
        return metadata

    def attenuate(self, adapter_scale: float) -> None:
        """Scale the installed adapter, from 0 (frozen) to 1 (unchanged).

        Raises:
            UserError: If there is no adapter, its kind cannot be attenuated, or the fraction is out of range.
        """
        _check_scale(adapter_scale)
        if self.adapter is None:
            raise UserError(f"{self.name} carries no adapter to attenuate; load one first")
        if adapter_scale != 1:
            self.adapter.attenuate(self.trunk, adapter_scale)
            self.adapter_scale *= adapter_scale

    def _read_file(self, path: str | Path, trust: Sequence[str]) -> tuple[Adapter, dict[str, Tensor], dict[str, str]]:
        metadata = read_metadata(path)
        self._require_weights(path, metadata)
        try:
            kind = read_kind(metadata["adapter"], metadata["sizes"], trust)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        twin = injected_twin(self.trunk, self.adapter, kind)
        shapes = {f"trunk.{name}": p.shape for name, p in twin.named_parameters() if p.requires_grad}
        return kind, read_tensors(path, shapes), metadata

    def _read_peft(self, folder: Path) -> tuple[Adapter, dict[str, Tensor], dict[str, str]]:
        kind, updates, metadata = read_peft_folder(folder)
        self._require_weights(folder, metadata)
        twin = injected_twin(self.trunk, self.adapter, kind)
        tensors = place_updates(folder, twin, kind, updates)
        return kind, {f"trunk.{name}": tensor for name, tensor in tensors.items()}, metadata

    def _require_weights(self, path: str | Path, metadata: Mapping[str, str]) -> None:
        if metadata["weight_hash"] and metadata["weight_hash"] != self.weight_hash:
            raise UserError(
                f"{path} was made on {metadata['backbone']!r} with weights {metadata['weight_hash']!r}, but this "
                f"backbone is {self.name} with weights {self.weight_hash!r}; load the same weights as in pre-training"
            )
        for key, here in self.reading().items():
            if metadata.get(key, here) != here:  # missing in files of earlier versions
                raise UserError(
                    f"{path} was made on {metadata['backbone']!r} with {key} {metadata[key]}, but this backbone has "
                    f"{here}; read the weights as in pre-training (config.yaml in its run folder)"
                )

    def save_peft(self, folder: str | Path) -> None:
        """Write a LoRA as a folder that `peft.PeftModel.from_pretrained` loads into the plain timm model.

        Args:
            folder: Created if needed; receives `adapter_config.json` and `adapter_model.safetensors`.

        Raises:
            UserError: If there is no adapter, it is not a LoRA, or it is at reduced strength.
        """
        if not isinstance(self.adapter, LoRA):
            raise UserError(f"PEFT's format holds a LoRA, but {self.name} carries {self.adapter}; use save_adapter")
        self._require_whole()
        write_peft_folder(folder, self.adapter, self.trunk, self.name, self.weight_hash)

    def _require_whole(self) -> None:
        if self.adapter_scale != 1:
            raise UserError(
                f"the adapter was loaded with adapter_scale={self.adapter_scale}; load it with 1 to save it"
            )

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that the adapters added or marked for training."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    def _forget_adapter(self) -> None:
        self.adapter, self.adapter_names, self.adapter_scale = None, (), 1.0


def _check_scale(adapter_scale: float) -> None:
    if not 0 <= adapter_scale <= 1:
        raise UserError(f"expected adapter_scale from 0 (frozen) to 1 (adapted), found {adapter_scale}")
