"""The hash of a checkpoint moves with everything in it, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from src.core.content_hash import content_hash


def content() -> dict[str, Any]:
    weights = {"w": torch.arange(6.0).view(2, 3)}
    return {"step": 3, "rate": 0.1, "name": "a", "none": None, "state": weights, "list": [1]}


CHANGES: dict[str, Any] = {
    "step": 4,
    "rate": 0.1 + 1e-16,
    "name": "b",
    "none": False,
    "list": [1, 2],
    "a bit of a tensor": {"w": torch.arange(6.0).view(2, 3).index_fill(0, torch.tensor([1]), 5.0)},
    "shape": {"w": torch.arange(6.0).view(3, 2)},
    "type": {"w": torch.arange(6.0).view(2, 3).double()},
    "tensor's name": {"v": torch.arange(6.0).view(2, 3)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_moves_the_hash(change: str) -> None:
    key = change if change in content() else "state"
    assert content_hash(content() | {key: CHANGES[change]}) != content_hash(content())


def test_memory_layout_and_kind_of_sequence_do_not() -> None:
    turned = content() | {"state": {"w": torch.arange(6.0).view(2, 3).T.contiguous().T}, "list": (1,)}
    assert content_hash(turned) == content_hash(content())


@pytest.mark.parametrize("value", [torch.tensor(3.0), torch.zeros(0), torch.ones(2, dtype=torch.bfloat16), "\ud800"])
def test_odd_values_have_one_too(value: Any) -> None:
    assert len(content_hash({"x": value})) == 32
