"""The very words that `wandb agent` passes are read as the values that the sweep drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonargparse import get_loader
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from src.cli import main as run
from src.config.sweep_arguments import flags, from_agent, with_nulls
from src.core.errors import CommandLineError
from tests.command_line import pretraining, with_arguments, written

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(-1e3, 1e3).map(lambda x: round(x, 6)) | st.just("poly")


def agent_words(values: dict[str, Any]) -> list[str]:
    """By wandb's own function."""
    return create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})["args"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["--a.b=null"]),
        (True, ["--a.b=true"]),
        (False, ["--a.b=false"]),
        (3, ["--a.b=3"]),
        (1e-05, ["--a.b=1e-05"]),
        ("cosine", ["--a.b=cosine"]),
        ("runs/a=b", ["--a.b=runs/a=b"]),
        ([2, None, "x", True], ['--a.b=[2, null, "x", true]']),
        ({"lr": 0.1, "deep": {"bias": None}}, ["--a.b.lr=0.1", "--a.b.deep.bias=null"]),
        ([], ["--a.b=[]"]),
        ({"init_args": {"bias": None}}, ['--a.b.init_args={"bias": null}']),
        (
            {"init_args": {"c": {"init_args": {"d": {"e": None}}}}},
            ['--a.b.init_args={"c": {"init_args": {"d": {"e": null}}}}'],
        ),
        ({}, ["--a.b={}"]),
    ],
)
def test_each_kind_of_value(value: Any, words: list[str]) -> None:
    assert from_agent(agent_words({"a.b": value})) == words == flags("a.b", value)


def test_a_null_that_would_cost_other_objects_is_refused() -> None:
    with pytest.raises(ValueError, match=r"objectives\.local\.init_args\.targets: null cannot be passed"):
        flags("model.init_args.objectives.local.init_args.targets", None)


@pytest.mark.parametrize("words", [["null"], ["~"], None])
def test_a_null_on_the_command_line_is_null_in_a_class_within_a_class(words: list[str] | None) -> None:
    key = "--model.init_args.backbone.init_args.adapter"
    given = [f"{key}=null"] if words is None else [key, *words]
    assert with_nulls(["test", "--x", "1", *given, "--y=null"]) == [
        "test", "--x", "1", '--model.init_args={"backbone": {"init_args": {"adapter": null}}}', "--y=null"
    ]  # fmt: skip
    assert with_nulls(["fit", key, "a.safetensors"]) == ["fit", key, "a.safetensors"]
    with pytest.raises(CommandLineError, match="null cannot be passed"):
        with_nulls(["fit", "--model.init_args.objectives.local.init_args.targets", "null"])


@given(st.lists(LEAVES | st.lists(LEAVES, max_size=3), max_size=4))
@example([3e-06])  # no number to plain YAML 1.1, but one to the reader of flags
def test_lists_come_back_as_they_were(value: list[Any]) -> None:
    (word,) = from_agent(agent_words({"key": value}))
    assert get_loader("yaml")(word.removeprefix("--key=")) == value


def test_the_rest_of_the_command_stays() -> None:
    words = ["fit", "--config=experiments/a.yaml", "--trainer.logger", "Wandb", "None", "--flag"]
    assert from_agent(words) == words


def test_the_agents_words_reach_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pretraining(tmp_path / "run", max_steps=1)
    config["model"] = with_arguments(config["model"], optimisation={"lr": 1e-2, "lr_batch": 256})
    values = {
        "model": {"init_args": {"optimisation": {"lr": 1e-05, "lr_batch": None}}},
        "model.init_args.backbone.init_args.adapter": None,
        "model.init_args.adapter.init_args.placement": "parallel",
        "model.init_args.objectives.local.init_args.weight": 0,
        "data.init_args.batch_size": 2,
        "trainer.callbacks": [],
        "trainer.enable_progress_bar": False,
    }
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    command = run(["fit", "--config", written(tmp_path / "x.yaml", config), *agent_words(values)])
    model = command.model
    assert (model.optimisation.lr, model.optimisation.lr_batch) == (1e-05, None)
    assert model.student.backbone.adapter.placement == "parallel"
    assert model.student.backbone.adapter.rank == 2  # the file's other arguments stay
    assert sorted(model.objectives) == ["global", "regional"]
    assert command.config["fit"].data.init_args.batch_size == 2
