"""The one hash of a configuration."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from src.config.composition import override
from src.config.defaults import _signature
from src.config.hashing import config_hash, digest, file_hash, without_effect
from src.config.parser import Parser
from tests.command_line import pretraining

CONFIG = pretraining(Path("runs/x"))
OBJECTIVE = "model.init_args.objectives.local"


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer.default_root_dir": "elsewhere", "trainer.enable_progress_bar": True},
        {"seed_everything": 5, "model.init_args.seed": 5, "data.init_args.seed": 5},
        {"data.init_args.root": "elsewhere", "data.init_args.num_workers": 7},
        {"ckpt_path": "last", "weights_only": True, "checkpoint.every_n_steps": 3},
        {"trainer.logger": {"class_path": "src.callbacks.loggers.TensorBoard"}},
        {"trainer.callbacks": [{"class_path": "src.studies.run.progress.StageProgress"}]},
        {"trainer.callbacks": None, "trainer.precision": "32-true", "trainer.max_epochs": None},
        {"trainer.devices": 2},
        {"trainer.devices": [0, 1], "trainer.num_nodes": 2},
        {"trainer.devices": "auto", "trainer.strategy": "ddp"},
        {f"{OBJECTIVE}.class_path": "src.pretraining.consistency.LocalConsistency", f"{OBJECTIVE}.init_args": {}},
        {f"{OBJECTIVE}.init_args.weight": 1, f"{OBJECTIVE}.init_args.same_view": 0.5},
        {"model.class_path": "src.pretraining.module.ContinualPretraining"},
        {"guards.spike": 1.5, "monitor.images": 16},
        {"model.init_args.backbone.init_args.trust": ["mylab"]},
    ],
)
def test_what_changes_no_number_changes_no_hash(changes: dict[str, Any]) -> None:
    assert config_hash(override(CONFIG, changes)) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer.max_steps": 3},
        {"trainer.accumulate_grad_batches": 2},
        {"trainer.precision": "bf16-mixed"},
        {"trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}]},
        {"data.init_args.batch_size": 8},
        {"data.init_args.size": 64},
        {f"{OBJECTIVE}.init_args.weight": 2.0},
        {"model.init_args.optimisation.clip": 1.0},
        {"model.init_args.adapter": {"class_path": "src.backbones.adapters.LoRA"}},
        {"guards.spike": 2.0},
    ],
)
def test_what_changes_a_number_changes_the_hash(changes: dict[str, Any]) -> None:
    assert config_hash(override(CONFIG, changes)) != config_hash(CONFIG)


def test_weights_count_by_their_bytes_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file_hash.cache_clear()
    for name, content in {"a.pth": b"1", "b.pth": b"1", "c.pth": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    key = "model.init_args.backbone.init_args.weights"
    paths = (str(tmp_path / "a.pth"), "b.pth", "c.pth")
    first, same, other = (config_hash(override(CONFIG, {key: path})) for path in paths)
    assert first == same != other


def test_without_effect_leaves_the_rest() -> None:
    config = {
        "trainer": {"default_root_dir": "x", "logger": {"class_path": "y"}, "devices": 2, "max_steps": 5},
        "data": {"init_args": {"root": "z", "num_workers": 3, "size": 112}},
    }
    assert without_effect(config) == {"trainer": {"max_steps": 5}, "data": {"init_args": {"size": 112}}}


def test_the_digest_is_of_the_content_not_of_its_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])


def test_imports_do_not_decide_whether_one_batch_is_hashed_or_read_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the import of a package whose `Optional[Union[float, int]]` `typing` gives out for the Trainer's."""
    expected = config_hash(override(CONFIG, {"trainer.limit_val_batches": 1}))
    annotations = inspect.unwrap(Trainer.__init__).__annotations__
    for name in ("limit_val_batches", "overfit_batches"):
        monkeypatch.setitem(annotations, name, typing.Union[float, int, None])  # noqa: UP007
    _signature.cache_clear()
    assert config_hash(override(CONFIG, {"trainer.limit_val_batches": 1})) == expected
    assert config_hash(override(CONFIG, {"trainer.limit_val_batches": 1.0})) != expected
    for name in ("limit_val_batches", "overfit_batches"):
        monkeypatch.setitem(annotations, name, typing.Union[float, int, None])  # noqa: UP007
    parser = Parser(exit_on_error=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    read = parser.parse_object({"trainer": {"limit_val_batches": 1, "overfit_batches": 0.5}}).trainer
    assert (type(read.limit_val_batches), read.limit_val_batches, read.overfit_batches) == (int, 1, 0.5)
