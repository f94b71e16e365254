"""ONNX and torch.export: one graph from RGB images to the class token and the patches.

Input `images`: `[B, 3, H, W]`, float in [0, 1]; the graph normalises. Outputs `cls` `[B, D]` and `patches` `[B, N, D]`,
after the final norm. B images · D width · N patches, row by row.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from src.backbones.backbone import Backbone
from src.backbones.export.merging import check_size, mergeable, merged, native_size, standalone
from src.core.atomic_files import replacing
from src.core.errors import UserError

TOLERANCE = 1e-4  # of the largest feature, between the exported graph and the backbone
_MOST_PATCHES, _MOST_IMAGES = 1024, 65536  # of a side, of a batch


class TokenGraph(nn.Module):
    """A backbone that returns tensors only.

    Args:
        backbone: Frozen, in evaluation mode.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class token `[B, D]` and patches `[B, N, D]`."""
        features = self.backbone(images)
        return features.cls, features.patches


class ExportableRotary(RotaryEmbeddingDinoV3):
    """timm's rotary embedding with a grid that exports correctly at every size: `arange(n) + 0.5`, not `arange(0.5,
    n)`.

    The class of an existing embedding is replaced by this one; everything else is inherited.
    """

    def get_embed(self, shape: Any = None, dtype: torch.dtype | None = None) -> Tensor:
        """Sine and cosine `[h·w, 2·dim]` of a grid (h, w)."""
        if shape is None or self.normalize_coords != "separate" or self.grid_indexing != "ij" or self.grid_offset:
            return super().get_embed(shape, dtype)
        axes = [2 * (torch.arange(side).float() + 0.5) / side - 1 for side in shape]
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)  # [h·w, 2]
        embedded = torch.cat(self._get_pos_embed_from_coords(coordinates), dim=-1)
        return embedded if dtype is None else embedded.to(dtype)


def to_onnx(backbone: Backbone, folder: Path, size: int | None = None) -> Path:
    """Write `backbone.onnx` and compare it with the backbone in onnxruntime.

    Args:
        backbone: With or without an adapter.
        folder: Target folder; created if needed.
        size: Side of square images in pixels; None for any height and width.

    Raises:
        UserError: If the extra `export` is not installed, the size does not fit, or the features differ.
    """
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f"--to onnx needs {', '.join(lacking)}; pip install 'glare-lightning[export]'")
    graph, example = _prepared(backbone, size)
    program = _program(graph, example, size)
    with _quiet():
        exported = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=["cls", "patches"], verbose=False
        )
    assert exported is not None
    path = folder / "backbone.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        exported.save(partial)
        _compare(graph, _onnx_session(partial), example, size, "onnxruntime")
    return path


def to_torch_export(backbone: Backbone, folder: Path, size: int | None = None) -> Path:
    """Write `backbone.pt2`, which `torch.export.load(path).module()` runs without this package, and compare it.

    Args:
        backbone: With or without an adapter, of any kind.
        folder: Target folder; created if needed.
        size: Side of square images in pixels; None for any height and width.

    Raises:
        UserError: If the size does not fit, or the features differ.
    """
    graph, example = _prepared(backbone, size)
    program = _program(graph, example, size)
    path = folder / "backbone.pt2"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, _quiet():
        with partial.open("wb") as file:
            torch.export.save(program, file)
        _compare(graph, torch.export.load(partial).module(), example, size, "torch.export")
    return path


def _prepared(backbone: Backbone, size: int | None) -> tuple[TokenGraph, Tensor]:
    """Module to export, and images of a size that it takes."""
    own = merged(backbone, "onnx") if mergeable(backbone) else standalone(backbone)
    own.checks_range = False
    if isinstance(rope := getattr(own.trunk, "rope", None), RotaryEmbeddingDinoV3):
        rope.__class__ = ExportableRotary
    patch = own.patch_size
    if size is not None:
        check_size(size, patch)
    # dynamic sizes: a grid that is neither square nor the position table's
    sides = (size, size) if size is not None else (3 * patch, 5 * patch)
    return TokenGraph(own), _images(2, *sides)


def _program(graph: TokenGraph, example: Tensor, size: int | None) -> ExportedProgram:
    shape: dict[int, Any] = {0: Dim("batch", min=1, max=_MOST_IMAGES)}
    if size is None:
        patch = graph.backbone.patch_size
        shape |= {2: patch * Dim("rows", min=2, max=_MOST_PATCHES), 3: patch * Dim("columns", min=2, max=_MOST_PATCHES)}
    with _quiet():
        return torch.export.export(graph, (example,), dynamic_shapes={"images": shape})


def _compare(
    graph: TokenGraph, exported: Callable[[Tensor], Any], example: Tensor, size: int | None, name: str
) -> None:
    """Refuse a graph whose features differ, tested at one size or, if it takes any, at three."""
    batches = [_images(1, *example.shape[2:])]
    if size is None:
        patch, native = graph.backbone.patch_size, native_size(graph.backbone.trunk)
        batches += [_images(3, 6 * patch, 4 * patch), *([] if native is None else [_images(1, *native)])]
    for images in batches:
        with torch.inference_mode():
            expected, found = graph(images), exported(images)
        for output, one, other in zip(("cls", "patches"), expected, found, strict=True):
            difference = float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
            if not difference <= TOLERANCE:
                raise UserError(
                    f"the exported graph gives other features: {output} of images {list(images.shape)} differ by "
                    f"{difference:.1e} in {name}, expected at most {TOLERANCE:.0e}; please report it with your "
                    "versions of torch and timm"
                )


def _onnx_session(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: [
        torch.from_numpy(found) for found in session.run(["cls", "patches"], {"images": images.numpy()})
    ]


def _images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context in which exporters do not print their progress."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
