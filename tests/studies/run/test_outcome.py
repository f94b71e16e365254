"""The files that say a stage is done, from what it left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.core.json_files import read_json, write_json
from src.core.safetensors_header import count_values
from src.studies.run.outcome import speed, tensors_hash, write_outcome


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


def test_an_evaluation_without_scores_is_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "cell.json", {"stage": "evaluate", "title": "x", "cell": "x", "config": "x", "seed": 0})
    with pytest.raises(FileNotFoundError, match=r"evaluation\.json"):
        write_outcome(tmp_path, 1.0, resumed=False)
    write_json(tmp_path / "cell.json", {"stage": "pretrain", "title": "x", "cell": "x", "config": "x", "seed": 0})
    with pytest.raises(FileNotFoundError, match=r"adapter\.safetensors"):
        write_outcome(tmp_path, 1.0, resumed=False)
    assert not (tmp_path / "metrics.json").exists()


def test_an_adapter_counts_by_its_tensors_and_the_content_of_its_metadata(tmp_path: Path) -> None:
    hashes = []
    one, two = '{"a":{"x":1},"b":{"y":2}}', '{"b":{"y":2},"a":{"x":1}}'
    for header, data in ((one, b"x"), (two, b"x"), (one, b"y")):
        (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)
        hashes.append(tensors_hash(tmp_path / "f"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_parameters_are_counted_from_the_adapter_s_header(tmp_path: Path) -> None:
    header = b'{"__metadata__":{"step":"3"},"a":{"shape":[2,3]},"b":{"shape":[5]},"c":{"shape":[]}}'
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + b"data")
    assert count_values(tmp_path / "f") == 2 * 3 + 5 + 1


def test_the_speed_is_the_mean_of_what_was_logged(tmp_path: Path) -> None:
    assert "images_per_second" not in speed(tmp_path)
    (tmp_path / "metrics.csv").write_text("step,train/images_per_second\n4,10.0\n8,\n9,20.0\n")
    assert speed(tmp_path)["images_per_second"] == 15.0
