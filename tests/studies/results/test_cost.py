"""A row's cost is read from its cells."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from src.core.json_files import write_json
from src.studies.results.cost import Cost, adapter_parameters, cost


def cell(folder: Path, seconds: float, memory: int) -> Path:
    """A finished cell."""
    folder.mkdir()
    write_json(folder / "provenance.json", {"seconds": seconds, "peak_memory_bytes": memory})
    return folder


def test_parameters_are_those_of_the_adapter_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "adapter.safetensors", {"step": "1"})
    assert adapter_parameters(tmp_path) == 17
    assert adapter_parameters(tmp_path / "elsewhere") is None


def test_a_seed_costs_the_mean_pre_training_and_all_its_evaluations(tmp_path: Path) -> None:
    trained = [cell(tmp_path / "p0", 100, 2**30), cell(tmp_path / "p1", 140, 3 * 2**30)]
    tested = [cell(tmp_path / name, seconds, 2**30) for name, seconds in (("a", 10), ("b", 20), ("c", 30), ("d", 40))]
    found = cost(trained, tested, seeds=2)
    assert found == Cost(None, 120, 50, 3 * 2**30)
    assert found.sentence() == "2 min of pre-training a seed, 50 s of evaluation a seed, 3.0 GiB of memory"


def test_what_is_not_there_is_not_invented(tmp_path: Path) -> None:
    found = cost([], [tmp_path / "missing"], seeds=1)
    assert found == Cost(None, None, None, None)
    assert found.sentence() == ""
    assert set(found.texts().values()) == {"–"}
