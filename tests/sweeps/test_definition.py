"""A sweep file says what wandb's documentation says it says, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from src.config.sweep_arguments import from_agent
from src.sweeps.definition import Rungs, Sweep
from src.sweeps.parameters import Choice, Constant, Integers
from tests.command_line import ROOT
from tests.sweeps.sweep_files import sweep

FILES = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))


def agent_command(template: list[str], program: str, values: dict[str, Any]) -> list[str]:
    """As `wandb.wandb_agent.Agent._command_run` puts it together, whose callable parts are wandb's own."""
    macros = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    macros |= {"interpreter": [sys.executable], "program": [program], "env": ["/usr/bin/env"]}
    words: list[str] = []
    for part in create_sweep_command(list(template)):
        words += macros[part[2:-1]] if part.startswith("${") and part.endswith("}") else [part]
    return words


def test_nested_parameters_are_joined(tmp_path: Path) -> None:
    nested = {"model": {"parameters": {"lr": {"values": [1]}, "head": {"parameters": {"size": {"min": 1, "max": 2}}}}}}
    found = sweep(tmp_path, {**nested, "data.size": {"value": 3}})
    assert found.parameters == {"model.lr": Choice((1,)), "model.head.size": Integers(1, 2), "data.size": Constant(3)}


def test_the_command_is_the_agents_but_for_the_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "there")
    template = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--root=${envvar:PLACE}/${RUN}", "${args}"]
    values = {"a.b": None, "a.c": [1, True], "d": 1e-05, "e": "poly"}
    found = sweep(tmp_path, {key: {"value": value} for key, value in values.items()}, command=template)
    expected = ["/usr/bin/env", sys.executable, "-m", found.program, "fit", "--root=there/${RUN}"]
    assert found.command(values) == [*expected, "--a.b=null", "--a.c=[1, true]", "--d=1e-05", "--e=poly"]
    assert found.command(values) == from_agent(agent_command(template, found.program, values))


@pytest.mark.parametrize(
    ("content", "rungs"),
    [
        ({"type": "hyperband", "min_iter": 3}, Rungs(3, 3)),
        ({"type": "hyperband", "min_iter": 2, "eta": 2}, Rungs(2, 2)),
        ({"type": "hyperband", "max_iter": 27, "s": 2}, Rungs(3, 3)),
    ],
)
def test_early_termination(tmp_path: Path, content: dict[str, Any], rungs: Rungs) -> None:
    assert sweep(tmp_path, {"lr": {"value": 1}}, early_terminate=content).rungs == rungs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "grid"}, "no key 'methods', did you mean 'method'?"),
        ({"method": "hyper"}, "grid, random or bayes, found 'hyper'"),
        ({"metric": None}, "lacks metric"),
        ({"metric": "loss"}, "metric should be a mapping"),
        ({"metric": {"name": "loss", "goal": "min"}}, "minimize or maximize, found 'min'"),
        ({"parameters": {"lr": {"min": 0.1, "max": 1.0}}}, "which lr are not"),
        ({"parameters": {"lr": 3}}, "parameter lr should be a mapping such as {value: 3}"),
        ({"command": ["python", "${args_no_hyphens}"]}, "command should hold ${args}"),
        ({"run_cap": 0}, "run_cap should be a whole number from 1, found 0"),
        ({"early_terminate": {"type": "median"}}, "type: hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 4, "s": 4}}, "at 1 logged value or later, found 0"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        sweep(tmp_path, **{"parameters": {"lr": {"value": 1}}, **changes})
    assert message in str(error.value)
    assert str(tmp_path / "sweep.yaml") in str(error.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_projects_own_files(path: Path) -> None:
    found = Sweep.read(path)
    (config,) = (word.partition("=")[2] for word in found.template if word.startswith("--config="))
    assert (ROOT / config).is_file()
    header = path.read_text().split("\nprogram:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"SWEEP={path.stem}" in header
    assert "GOOD" in header and "COST" in header
    # the run folder of an agent's run is its own, or the next one would take over its files
    assert f"--trainer.default_root_dir=runs/sweeps/{path.stem}/${{WANDB_RUN_ID}}" in found.template


def test_there_are_files() -> None:
    assert {"glare-lr", "camvid-linear"} <= {path.stem for path in FILES}
