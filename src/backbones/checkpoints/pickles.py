"""Read PyTorch's pickled checkpoints without running code."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.backbones.checkpoints.foreign import foreign_archive
from src.core.checkpoint_files import HASH
from src.core.errors import UserError
from src.core.printable import printable
from src.core.unpickling import reason_of, wanted_call

# DINO, iBOT and UDI store their command-line options with the weights. A Namespace only holds values.
_HARMLESS: list[Any] = [argparse.Namespace]
# Packages of networks and other names in their pickles; each is replaced by an empty class.
_MODULE = re.compile(
    r"(?:timm|torch\.nn|torch\._C\._nn|torchvision|lightly|lightly_train|lightning|lightning_fabric|pytorch_lightning)\."
    r"|functools\.partial$"
)
_CONVERT = """python - FILE converted.pth <<'END'
import sys, torch
def tensors(x):
    x = x.state_dict() if isinstance(x, torch.nn.Module) else x
    if isinstance(x, dict):
        return {k: tensors(v) for k, v in x.items() if isinstance(v, (dict, torch.Tensor, torch.nn.Module))}
    return x
torch.save(tensors(torch.load(sys.argv[1], map_location="cpu", weights_only=False)), sys.argv[2])
END"""


def read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a `.pth`, `.pt`, `.bin` or `.ckpt`, nested dictionaries joined by dots, and this project's marker.

    Raises:
        UserError: If it is damaged, compressed, another tool's format, not a dictionary of tensors, or a pickle that
            calls code.
    """
    _check_archive(path)
    try:
        stand_ins = _stand_ins(path)
        with torch.serialization.safe_globals([*_HARMLESS, *stand_ins]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise many kinds of errors
        raise UserError(_reason(path, error)) from None
    tensors: dict[str, Tensor] = {}
    if isinstance(loaded, Mapping):
        _flatten(loaded, "", tensors, depth=0)
    if stand_ins and not tensors:  # a bare module, whose tensors only its own code can name
        raise UserError(_convert(path, stand_ins[0][1]))
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds a {type(loaded).__name__}, expected a dictionary of named tensors")
    mark = loaded.get(HASH)  # of a resume checkpoint
    return tensors, {HASH: mark} if isinstance(mark, str) else {}


def _stand_ins(path: Path) -> list[tuple[type, str]]:
    """Empty stand-ins for the classes of a file that holds whole modules and a state dict (LightlyTrain).

    No code of the modules' packages is imported or run; anything else is still refused.
    """
    if not zipfile.is_zipfile(path):
        return []
    with torch.serialization.safe_globals(_HARMLESS):
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if not all(_MODULE.match(name) for name in wanted):
        return []
    return [(type("StandIn", (_StandIn,), {}), name) for name in wanted]


class _StandIn:
    """Object that accepts any arguments and any state, and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _check_archive(path: Path) -> None:
    """Check, as torch's reader does not, that nothing is compressed and that each entry matches its checksum.

    torch.save stores its entries uncompressed, so a compressed or overlapping archive is not its own, and can unpack to
    any size; and one flipped bit in the list of tensors can turn a matrix into another one of the same shape.

    Raises:
        UserError: If it is compressed, damaged, or another tool's format.
    """
    if not zipfile.is_zipfile(path):
        return  # the old format, or truncated: torch reports it
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            foreign = foreign_archive(path, [entry.filename for entry in entries])
            claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
            plain = claimed <= size and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            spoilt = archive.testzip() if plain and not foreign else None
    except Exception as error:  # readers of damaged archives raise many kinds of errors
        raise UserError(f"{path} is damaged ({error}); copy or download it again") from None
    if foreign:
        raise UserError(foreign)
    if not plain:
        raise UserError(
            f"{path} was not read: it is a compressed archive that unpacks from {size:,} to {claimed:,} bytes; "
            "a checkpoint written by torch.save stores its tensors uncompressed. If it is an archive, unpack it first"
        )
    if spoilt is not None:
        raise UserError(
            f"{path} is damaged: the checksum of its entry {printable(spoilt)} differs; copy or download it again"
        )


def _reason(path: Path, error: Exception) -> str:
    wanted = wanted_call(error)
    if wanted:
        return _convert(path, wanted)
    return f"{path} is damaged or not a PyTorch checkpoint ({reason_of(error)}); copy or download it again"


def _convert(path: Path, wanted: str) -> str:
    return (
        f"{path} was not loaded: its pickle calls {wanted}, and a checkpoint that calls code can do anything to this "
        f"machine. If you trust its source, extract its tensors once and use the converted file:\n{_CONVERT}"
    )


def _flatten(level: Mapping[object, object], prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    """Collect tensors below string keys; an optimiser's state, which has integer keys, is left out."""
    for key, value in level.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Tensor):
            tensors[prefix + key] = value.detach()
        elif isinstance(value, Mapping) and depth < 8:
            _flatten(value, f"{prefix}{key}.", tensors, depth + 1)
