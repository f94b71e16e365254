"""Inputs that decide a cell's hash, and those that do not."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import pytest

from src.config.composition import override
from src.config.defaults import _signature
from src.config.hashing import config_hash, file_hash, manifest
from src.core.json_files import write_json
from src.segmentation import SemanticSegmentation
from src.studies.plan.cells import Cell, Store, config_digest
from src.studies.run.execution import stage_config
from tests.studies.cells_on_disk import PRETRAIN, SEGMENT


@pytest.fixture(autouse=True)
def forget_files() -> None:
    """Hashes of files are kept for the life of a process."""
    manifest.cache_clear()
    file_hash.cache_clear()


@pytest.mark.parametrize(
    "change",
    [
        {"trainer.default_root_dir": "elsewhere"},
        {"trainer.logger": {"class_path": "src.callbacks.weights_and_biases.Wandb"}},
        {"trainer.accelerator": "gpu", "trainer.devices": "auto"},
        {"trainer.devices": 2, "trainer.num_nodes": 2},
        {"model.init_args.adapter": {"class_path": "src.backbones.adapters.UniAdapter"}},  # the default
        {"model.class_path": "src.pretraining.module.ContinualPretraining"},
        {"data.init_args.num_workers": 7},
        {"seed_everything": 3},
        {"ckpt_path": "last"},
    ],
)
def test_what_has_no_effect_is_not_hashed(change: dict[str, object]) -> None:
    assert config_digest(override(PRETRAIN, change)) == config_digest(PRETRAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"trainer.max_steps": 5},
        {"data.init_args.batch_size": 8},  # of all processes together
        {"trainer.accumulate_grad_batches": 2},
        {"trainer.precision": "bf16-mixed"},
        {"data.init_args.size": 48},
        {"data.class_path": "datamodules.camvid.CamVidDataModule"},
        {"model.init_args.adapter": {"class_path": "src.backbones.adapters.LoRA"}},
    ],
)
def test_what_has_an_effect_is_hashed(change: dict[str, object]) -> None:
    assert config_digest(override(PRETRAIN, change)) != config_digest(PRETRAIN)


def test_a_default_of_the_code_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config_digest(SEGMENT)
    defaults = SemanticSegmentation.__init__.__defaults__ or ()
    monkeypatch.setattr(SemanticSegmentation.__init__, "__defaults__", ("changed", *defaults[1:]))
    _signature.cache_clear()
    after = config_digest(SEGMENT)
    monkeypatch.undo()
    _signature.cache_clear()
    assert after != before == config_digest(SEGMENT)


def test_data_counts_by_what_lies_there_not_by_where(tmp_path: Path) -> None:
    digests = []
    for name, files in (("a", ["1.png", "2.png"]), ("b", ["1.png", "2.png"]), ("c", ["1.png"])):
        (tmp_path / name / "images").mkdir(parents=True)
        for file in files:
            (tmp_path / name / "images" / file).write_bytes(b"xyz")
        digests.append(config_digest(override(PRETRAIN, {"data.init_args.root": str(tmp_path / name)})))
    assert digests[0] == digests[1] != digests[2]
    manifest.cache_clear()
    (tmp_path / "a" / "images" / "2.png").write_bytes(b"longer")
    assert config_digest(override(PRETRAIN, {"data.init_args.root": str(tmp_path / "a")})) != digests[0]


def test_a_root_may_use_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    there = config_digest(override(PRETRAIN, {"data.init_args.root": "${DATA_ROOT}/x"}))
    assert there == config_digest(override(PRETRAIN, {"data.init_args.root": str(tmp_path / "x")}))
    with pytest.raises(FileNotFoundError, match="DATA_ROOT"):
        config_digest(override(PRETRAIN, {"data.init_args.root": "${DATA_ROOT}/y"}))


def test_weights_count_by_their_bytes(tmp_path: Path) -> None:
    key = "model.init_args.backbone.init_args.weights"
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (
        config_digest(override(PRETRAIN, {key: str(tmp_path / name)})) for name in ("a.pth", "b.pth", "c.pth")
    )
    assert first == same != other


def test_a_cell_is_its_configuration_its_seed_and_what_it_builds_on() -> None:
    trained = [Cell("pretrain", "x", seed, PRETRAIN, "p") for seed in (0, 1)]
    cells = [Cell("evaluate", "x", seed, SEGMENT, "s", needs) for seed in (0, 1) for needs in (None, *trained)]
    assert len({cell.identity for cell in cells + trained}) == 8
    assert Cell("evaluate", "another name", 0, deepcopy(SEGMENT), "s").identity == cells[0].identity


def test_results_of_another_version_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("pretrain", "x", 0, PRETRAIN, "p")
    before = cell.identity
    monkeypatch.setattr("src.studies.plan.cells.RESULTS_VERSION", 99)
    assert cell.identity != before


def test_json_is_written_whole_and_the_same_for_the_same_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 0.1, "a": {"d": 1, "c": "é"}})
    write_json(tmp_path / "b.json", {"a": {"c": "é", "d": 1}, "b": 0.1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


def test_a_failure_is_forgotten_when_the_cell_is_done(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), Cell("pretrain", "x", 0, PRETRAIN, "p")
    store.folder(cell).mkdir()
    write_json(store.folder(cell) / "failure.json", {"title": "t", "reason": "r", "log": []})
    assert not store.done(cell)
    assert store.failure(cell) == {"title": "t", "reason": "r", "log": []}
    write_json(store.folder(cell) / "metrics.json", {"values": {}})
    assert store.done(cell)
    assert store.failure(cell) is None


def test_the_process_of_a_cell_has_the_hash_of_the_cell(tmp_path: Path) -> None:
    for seed in (0, 5):
        cell = Cell("pretrain", "x", seed, PRETRAIN, "p")
        assert config_hash(stage_config(cell, Store(tmp_path))) == config_hash(PRETRAIN)
