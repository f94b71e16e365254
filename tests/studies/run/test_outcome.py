"""The files that say a stage is done, from what it left."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from src.core.json_files import read_json, write_json
from src.studies.run.outcome import write_outcome


def test_a_pre_trainings_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "cell.json", {"cell": "a", "config": "b", "seed": 3, "stage": "pretrain", "title": "t"})
    save_file({"down": torch.zeros(2, 3), "up": torch.ones(4)}, tmp_path / "adapter.safetensors")
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,train/loss/local,train/images_per_second,monitor/knn\n"
        "9,3.0,2.0,1.0,\n19,2.5,1.5,2.0,\n19,,,,0.4\n"
    )
    write_outcome(tmp_path, 12.34, resumed=True)
    metrics, provenance = read_json(tmp_path / "metrics.json"), read_json(tmp_path / "provenance.json")
    assert metrics is not None
    assert provenance is not None
    assert metrics["values"].pop("adapter")
    assert metrics["values"] == {"losses": {"train/loss": 2.5, "train/loss/local": 1.5}, "parameters": 10, "step": 19}
    assert (metrics["cell"], metrics["config"], metrics["seed"]) == ("a", "b", 3)
    assert provenance["steps"] == 20  # the step that was logged as 19 is done, too
    assert (provenance["seconds"], provenance["resumed"], provenance["images_per_second"]) == (12.3, True, 1.5)


def test_an_adapters_hash_leaves_its_metadata_out(tmp_path: Path) -> None:
    values = []
    for number, tensors in enumerate((torch.zeros(2), torch.zeros(2), torch.ones(2))):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_json(folder / "cell.json", {"cell": "a", "config": "b", "seed": 0, "stage": "pretrain", "title": "t"})
        save_file(
            {"w": tensors},
            folder / "adapter.safetensors",
            metadata={"a": "1", "b": "2"} if number else {"b": "2", "a": "1"},
        )
        (folder / "metrics.csv").write_text("step,train/loss\n0,1.0\n")
        write_outcome(folder, 1.0, resumed=False)
        metrics = read_json(folder / "metrics.json")
        assert metrics is not None
        values.append(metrics["values"]["adapter"])
    assert values[0] == values[1] != values[2]
