"""`python -m src sweep`: without a server by real fits, with one by wandb's own calls, and what it refuses."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from src.__main__ import main
from src.callbacks import weights_and_biases
from tests.command_line import losses, pretraining, written
from tests.core.test_names import BAD
from tests.sweeps import sweep_files

FIT: dict[str, Any] = {"program": "src", "command": ["${interpreter}", "-m", "${program}", "fit", "${args}"]}


def test_a_random_search_needs_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sweep_files.written(tmp_path, {"trainer.max_steps": {"value": 1}}, method="random", **FIT)
    assert main(["sweep", str(file), "--local"]) == 2
    assert "give --trials N, or run_cap in" in capsys.readouterr().err


def test_without_an_account_it_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    file = sweep_files.written(tmp_path, {"trainer.max_steps": {"value": 1}}, **FIT)
    assert main(["sweep", str(file)]) == 2
    assert f"python -m src sweep {file} --local" in capsys.readouterr().err


def test_with_an_account_it_is_created_and_an_agent_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(weights_and_biases, "reachable", lambda: True)
    monkeypatch.setattr(wandb, "sweep", lambda content, **where: calls.append((content, where)) or "id1")
    monkeypatch.setattr(wandb, "agent", lambda *args, **options: calls.append((args, options)))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    file = sweep_files.written(tmp_path, {"trainer.max_steps": {"values": [1, 2]}}, entity="us", **FIT)
    assert main(["sweep", str(file), "--trials", "3"]) == 0
    content = {"name": "sweep", "project": "glare", **yaml.safe_load(file.read_text())}
    where = {"project": "glare", "entity": "us"}
    assert calls == [(content, where), (("id1",), {**where, "count": 3})]


@pytest.mark.parametrize("name", [name for name in BAD if name and (name.isascii() or name.isprintable())], ids=ascii)
def test_the_name_of_a_local_sweep_is_no_path(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command = ["${interpreter}", "-m", "${program}", "fit", "${args}"]
    file = sweep_files.written(tmp_path, {"trainer.max_steps": {"value": 1}}, name=name, program="src", command=command)
    assert main(["sweep", str(file), "--local"]) == 2
    assert f"{file}, name: expected one folder name, found " in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] in (["here", "sweep.yaml"], ["sweep.yaml", "here"])


@pytest.mark.slow
def test_a_local_sweep_of_real_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path / "fit.yaml", pretraining(tmp_path / "unused"))
    command = ["${interpreter}", "-m", "${program}", "fit", f"--config={config}"]
    command += ["--trainer.default_root_dir=unused/${WANDB_RUN_ID}", "${args}"]
    parameters = {"model.init_args.optimisation.lr_batch": {"value": None}, "trainer.max_steps": {"value": 1}}
    changes = {"program": "src", "command": command, "metric": {"name": "train/loss"}}
    file = sweep_files.written(tmp_path, parameters, **changes)
    assert main(["sweep", str(file), "--local", "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "table.csv").open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert [float(row["train/loss"])] == losses(tmp_path / "out" / "0000")
    assert row["model.init_args.optimisation.lr_batch"] == "null"


@pytest.mark.parametrize(
    ("parameters", "flags", "message"),
    [
        ({"trainer.max_step": {"value": 1}}, [], "no flag --trainer.max_step, did you mean 'max_steps'?"),
        ({"data.init_args.sizes": {"min": 32, "max": 64}}, [], "has no 'sizes', did you mean 'size'?"),
        ({"trainer.max_steps": {"value": 1}}, ["--config=gone.yaml"], "--config gone.yaml: no such file"),
    ],
)
def test_a_misspelt_key_starts_no_trial(
    parameters: dict[str, Any], flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "fit.yaml", pretraining(tmp_path / "unused"))
    command = ["${interpreter}", "-m", "${program}", "fit", f"--config={config}", *flags, "${args}"]
    file = sweep_files.written(tmp_path, parameters, program="src", command=command)
    assert main(["sweep", str(file), "--local", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{file}: " in error and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
