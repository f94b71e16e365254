"""Hash over the content of a checkpoint: bytes of tensors, and plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def content_hash(content: Any) -> str:
    """Return 32 hex digits over nested mappings and lists of tensors and plain values, in their order.

    BLAKE2b, as for weights and adapters. Other objects count only by their class.

    Args:
        content: As ``torch.save`` takes it; tensors on any device.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    if type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided:
        digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)};".encode())
        for item in value:
            _feed(digest, item)
    elif type(value) in _PLAIN:
        digest.update(f"{value!r};".encode("utf-8", "backslashreplace"))
    else:
        digest.update(f"{type(value).__qualname__};".encode())
