"""Adapter files: a few MB of tensors, tied to the weights they were trained on by a hash.

safetensors, one tensor per adapter parameter under its name in the backbone, and string metadata: format version,
backbone name, hash of the frozen weights and how they are read, class path and settings of the adapter kind, optimiser
step, network (teacher or student), and hashes of the tensors and of the metadata itself. Equal contents give equal
bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from src.core.atomic_files import write_bytes
from src.core.errors import MissingFile, UserError
from src.core.printable import printable
from src.core.safetensors_header import parse_header

logger = logging.getLogger(__name__)

FORMAT = "2"
UNHASHED_FORMAT = "1"  # format of files without hashes
REQUIRED = ("format", "backbone", "weight_hash", "adapter", "sizes", "step")
_DTYPES = ("F64", "F32", "F16", "BF16")
_OTHER_PLACES = (
    "; a backbone's weights are given as weights, a run's last.ckpt as --ckpt_path, and the adapter of a run is "
    "adapter.safetensors in its folder"
)


def write_adapter(path: str | Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write an adapter file atomically.

    Args:
        path: The file; its folder is created if needed.
        metadata: All of `REQUIRED` except the format; further entries are kept.
        tensors: By parameter name in the backbone.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    entries = {**metadata, "format": FORMAT, "tensor_hash": tensor_hash(held)}
    entries["metadata_hash"] = _metadata_hash(entries)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, _sorted_header(save(held, entries)))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of an adapter file.

    Raises:
        MissingFile: If the file does not exist.
        UserError: If it is not an adapter file, is of a newer format, or is damaged.
    """
    with _opened(path) as file:
        return _checked_metadata(file, path)


def read_tensors(path: str | Path, expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of an adapter file, on the CPU.

    Names, shapes and types are compared with the file's header before memory is allocated; then values and hash.

    Args:
        path: The file.
        expected: Shapes by name.

    Raises:
        MissingFile: If the file does not exist.
        UserError: If it is not an adapter file, holds other tensors than expected, or is damaged.
    """
    with _opened(path) as file:
        metadata = _checked_metadata(file, path)
        kind = metadata["adapter"].rpartition(".")[2]
        wrong = sorted(expected.keys() ^ set(file.keys()))
        if wrong:
            raise UserError(f"{path} does not hold the tensors of its {kind}: {_some(wrong)}")
        for name, shape in expected.items():
            header = file.get_slice(name)
            if tuple(header.get_shape()) != tuple(shape) or header.get_dtype() not in _DTYPES:
                raise UserError(
                    f"{path} does not hold the tensors of its {kind}: expected {name} as floats {list(shape)}, "
                    f"found {header.get_dtype()} {header.get_shape()}"
                )
        tensors = {name: file.get_tensor(name).clone() for name in expected}
    spoilt = sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())
    if spoilt:
        raise UserError(f"{path} holds NaN or infinity in {_some(spoilt)}: training diverged, or the file is damaged")
    if metadata["format"] == UNHASHED_FORMAT:
        logger.warning(
            "%s was written before adapter files carried a hash of their tensors; damage cannot be detected", path
        )
    elif metadata["tensor_hash"] != tensor_hash(tensors):
        raise UserError(
            f"{path} is damaged: expected tensors with hash {metadata['tensor_hash']}, found {tensor_hash(tensors)}; "
            "copy it again"
        )
    return tensors


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """32 hex digits over names, types, shapes and bytes, in name order; BLAKE2b as for the weight hash."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _opened(path: str | Path) -> safetensors.safe_open:
    """Open the file; safetensors checks its header against its size."""
    if not Path(path).is_file():
        found = "a folder" if Path(path).is_dir() else "nothing"
        if (Path(path) / "adapter.safetensors").is_file():
            raise MissingFile(f"adapter file {path} not found: it is a run folder; name {path}/adapter.safetensors")
        raise MissingFile(
            f"adapter file {path} not found: {found} is there; `fit` and `adapt` write an adapter.safetensors into "
            "their run folder"
        )
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError, UnicodeError) as error:
        with Path(path).open("rb") as stream:
            pickled = stream.read(2) in (b"PK", b"\x80\x02")
        found = "is a PyTorch checkpoint" if pickled else f"is not a safetensors file ({printable(str(error))})"
        raise UserError(f"{path} {found}; expected an adapter.safetensors{_OTHER_PLACES if pickled else ''}") from None


def _checked_metadata(file: safetensors.safe_open, path: str | Path) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") not in (FORMAT, UNHASHED_FORMAT) or not set(REQUIRED) <= metadata.keys():
        found = f"format {metadata['format']!r}" if set(REQUIRED) <= metadata.keys() else "no adapter metadata"
        hint = "" if set(REQUIRED) <= metadata.keys() else _OTHER_PLACES
        raise UserError(f"{path} is not an adapter file of format {FORMAT} or {UNHASHED_FORMAT}: found {found}{hint}")
    if metadata["format"] == FORMAT:
        lacking = {"tensor_hash", "metadata_hash"} - metadata.keys()
        if lacking or metadata["metadata_hash"] != _metadata_hash(metadata):
            found = f"no {' and no '.join(sorted(lacking))}" if lacking else "metadata that was modified later"
            raise UserError(f"{path} is damaged: expected metadata with its hashes, found {found}; copy it again")
    return metadata


def _metadata_hash(metadata: Mapping[str, str]) -> str:
    entries = sorted((key, value) for key, value in metadata.items() if key != "metadata_hash")
    return hashlib.blake2b(json.dumps(entries).encode(), digest_size=16).hexdigest()


def _sorted_header(content: bytes) -> bytes:
    """The same bytes with metadata sorted by key, which safetensors writes in random order."""
    header, size = parse_header(content, len(content), "adapter")
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(ordered, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data stay aligned
    return len(text).to_bytes(8, "little") + text + content[size:]


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (", …" if len(names) > 4 else "")
