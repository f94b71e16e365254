"""Plans tell the truth: what is there, what is lacking, what it costs, and never "about 0 s"."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.__main__ import main
from src.core.process_lock import locked
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.run.runner import Runner
from tests.command_line import BACKBONE
from tests.studies.cells_on_disk import fill, finish, study_file

WEIGHTS = "model.init_args.backbone.init_args.weights"


def arguments(path: Path, *more: str) -> list[str]:
    return ["study", str(path), "--runs", str(path.parent / "runs"), *more]


def camvid(root: str) -> dict[str, Any]:
    return {"class_path": "datamodules.camvid.CamVidDataModule", "init_args": {"root": root, "task": "segment"}}


def lacking_study(folder: Path) -> Path:
    """A study whose two columns lack data and weights; its pre-training lacks nothing."""
    config = str(folder / "segment.yaml")
    missing: dict[str, Any] = {"model.init_args.backbone": BACKBONE, WEIGHTS: str(folder / "gone.pth")}
    columns = {
        "a": {"data": "a", "config": config, "set": {"data": camvid("${NO_SUCH_ROOT}/a")}},
        "b": {"data": "b", "config": config, "set": {"data": camvid(str(folder / "b")), **missing}},
    }
    return study_file(folder, columns=columns)


def test_a_dry_run_without_data_and_weights_names_all_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lacking_study(tmp_path)
    assert main(arguments(path, "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.split()[1] == "unknown" and "its hash is unknown" in line for line in lines) == 8
    total, *rest = lines[next(index for index, line in enumerate(lines) if "stages would run" in line) :]
    assert total == "10 of 10 stages would run; 10 of unknown duration"
    assert rest[0] == "missing on this machine:"
    assert rest[1] == "  environment variable NO_SUCH_ROOT (data.init_args.root) (4 cells)"
    assert rest[2] == f"  data folder {tmp_path / 'b'} (4 cells)"
    assert rest[3].startswith(f"  no weights at {tmp_path / 'gone.pth'}; expected hub")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("more", [[], ["--only", "frozen"]])
def test_a_run_that_lacks_something_names_all_of_it_before_any_cell_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(arguments(lacking_study(tmp_path), *more)) == 1
    error = capsys.readouterr().err
    assert "NO_SUCH_ROOT" in error and f"data folder {tmp_path / 'b'}" in error and "gone.pth" in error
    assert not (tmp_path / "runs").exists()


def test_hashes_are_those_of_a_machine_that_lacks_nothing(tmp_path: Path) -> None:
    path = lacking_study(tmp_path)
    before = {cell.identity for cell in Study.read(path).cells.values() if not cell.missing}
    (tmp_path / "b").mkdir()
    (tmp_path / "gone.pth").write_bytes(b"1")
    after = {cell.identity for cell in Study.read(path).cells.values() if not cell.missing}
    assert len(before) == 2 and before < after and len(after) == len(before) + 4


def test_a_list_has_hash_state_need_and_title_of_each_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path)
    study, store = Study.read(path), Store(tmp_path / "runs" / "cells")
    cells = list(study.cells.values())
    trained = [cell for cell in cells if cell.stage == "pretrain"]
    finish(trained[0], store)
    frozen = next(cell for cell in cells if cell.needs is None and cell.stage == "evaluate")
    store.folder(frozen).mkdir(parents=True)
    with locked(store.folder(frozen) / "lock"):
        assert main(arguments(path, "--list")) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [cell.identity for cell in cells]
    assert [row[2:] for row in rows] == [[cell.needs.identity if cell.needs else "-", cell.title] for cell in cells]
    states = {row[0]: row[1] for row in rows}
    assert (states[trained[0].identity], states[trained[1].identity]) == ("done", "missing")
    assert states[frozen.identity] == "running"
    after = {cell.needs: states[cell.identity] for cell in cells if cell.needs is not None}
    assert after == {trained[0]: "missing", trained[1]: "waiting"}
    failure = {"title": frozen.title, "reason": "exit code 1", "log": []}
    (store.folder(frozen) / "failure.json").write_text(json.dumps(failure))
    main(arguments(path, "--list"))
    assert f"{frozen.identity}\tfailed\t-" in capsys.readouterr().out


@pytest.mark.parametrize("fails", [False, True])
def test_one_cell_runs_alone_and_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    path, ran = study_file(tmp_path), []
    monkeypatch.setattr(Runner, "run", lambda self: ran.extend(self.cells) or (self.cells if fails else []))
    cell = next(iter(Study.read(path).cells.values()))
    assert main(arguments(path, "--cell", cell.identity)) == int(fails)
    assert ran == [cell]
    assert not (tmp_path / "runs" / "small").exists()


def test_a_cell_that_cannot_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path)
    cell = next(cell for cell in Study.read(path).cells.values() if cell.needs is not None)
    assert cell.needs is not None
    assert main(arguments(path, "--cell", cell.identity)) == 1
    assert f"run --cell {cell.needs.identity} first" in capsys.readouterr().err
    assert main(arguments(path, "--cell", cell.identity[:-1])) == 2
    assert f"did you mean '{cell.identity}'?" in capsys.readouterr().err
    assert main(arguments(path, "--cell", "x", "--list")) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_unmeasured_stages_cost_what_their_yaml_states_for_as_many_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, pretrain={"config": str(tmp_path / "pretrain.yaml"), "set": {"trainer.max_steps": 8}})
    file = tmp_path / "pretrain.yaml"
    file.write_text(f"# Test.\n#\n# COST  2 cores: 30 minutes, 2 GB of memory.\n{file.read_text()}")
    main(arguments(path, "--dry-run"))
    output = capsys.readouterr().out
    assert output.count("would run, about 60 min as its yaml states") == 2  # 8 steps of its 4
    assert "about 2 h 00 min as their yamls state one after another and 7 more of unknown duration" in output
    assert "at most 1.9 GiB of memory each" in output
    study, store = Study.read(path), Store(tmp_path / "runs" / "cells")
    fill(study, store)
    for cell in list(study.cells.values())[:1]:
        (store.folder(cell) / "metrics.json").unlink()
    main(arguments(path, "--dry-run"))
    output = capsys.readouterr().out
    assert "1 of 9 stages would run, about 60 s one after another" in output and "yaml" not in output


@pytest.mark.parametrize("filled", [False, True])
def test_a_plan_never_says_about_0_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "runs" / "cells")
    if filled:
        fill(study, store)
        monkeypatch.setattr("src.studies.run.estimate.Measured.seconds", lambda *_: 0.1)
    for cell in list(study.cells.values())[:filled]:
        (store.folder(cell) / "metrics.json").unlink()
    main(arguments(study.path, "--dry-run"))
    output = capsys.readouterr().out
    assert not re.search(r"about 0\b", output)
    assert ("about 1 s" in output) == filled
