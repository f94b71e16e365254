"""Running cells: in order, none twice, whatever is killed or fails. Stages are `quick_stage.py`, so no training."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from src.core.process_lock import locked
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.run import execution
from src.studies.run.runner import Runner, visible_accelerators
from tests.studies.cells_on_disk import read_json, study_file

QUICK = Path(__file__).with_name("quick_stage.py")
ROOT = Path(__file__).resolve().parents[3]
DRIVER = """
import signal
import sys
from pathlib import Path
from src.studies.run import execution
from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.run.runner import Runner
from src.studies.plan.study import Study
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
execution.STAGE = (sys.executable, sys.argv[1])
study = Study.read(Path(sys.argv[2]))
sys.exit(len(Runner(Store(Path(sys.argv[3])), study.cells.values(), int(sys.argv[4])).run()))
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(execution, "STAGE", (sys.executable, str(QUICK)))
    return Study.read(study_file(tmp_path / "study"))


def start(tmp_path: Path, store: Path, jobs: int = 1, pause: float = 0.05) -> subprocess.Popen[bytes]:
    """A study in a process of its own."""
    command = [sys.executable, "-c", DRIVER, str(QUICK), str(tmp_path / "study" / "small.yaml"), str(store), str(jobs)]
    environment = {**os.environ, "QUICK_STAGE_PAUSE": str(pause)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def metrics(study: Study, store: Store) -> dict[str, bytes]:
    return {name: (store.folder(cell) / "metrics.json").read_bytes() for name, cell in study.cells.items()}


def completions(study: Study, store: Store) -> list[int]:
    """Count how often each cell ran to its end."""
    files = [store.folder(cell) / "completions" for cell in study.cells.values()]
    return [len(file.read_text().split()) if file.is_file() else 0 for file in files]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_cell_runs_once_after_what_it_needs_and_leaves_its_numbers(
    study: Study, tmp_path: Path, jobs: int
) -> None:
    store = Store(tmp_path / "cells")
    assert Runner(store, study.cells.values(), jobs).run() == []
    assert completions(study, store) == [1] * len(study.cells)
    for cell in study.cells.values():
        found = store.metrics(cell)
        assert found is not None
        assert found["cell"] == cell.identity
        if cell.stage == "evaluate":
            assert found["values"]["miou"] == 0.5
            if cell.needs is not None:
                theirs, ours = (store.provenance(item) for item in (cell.needs, cell))
                assert theirs is not None and ours is not None
                assert theirs["finished"] <= ours["finished"]
        assert not (store.folder(cell) / "lock").exists()


def test_a_finished_study_runs_nothing(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    Runner(store, study.cells.values(), 1).run()
    before = metrics(study, store)
    Runner(store, study.cells.values(), 1).run()
    assert completions(study, store) == [1] * len(study.cells)
    assert metrics(study, store) == before


def test_a_changed_key_runs_exactly_what_it_touches(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    Runner(store, study.cells.values(), 1).run()
    column = {"label": "30-NN", "data": "scenes", "config": str(tmp_path / "study" / "segment.yaml"), "seeded": False}
    content = yaml.safe_load(study.path.read_text())
    content["columns"]["knn"] = {**column, "set": {"model.init_args.lr": 0.25}}
    study.path.write_text(yaml.safe_dump(content, sort_keys=False))
    changed = Study.read(study.path)
    new = set(changed.cells) - set(study.cells)
    assert {changed.cells[name].label for name in new} == {"Frozen, 30-NN", "GLARE, 30-NN"}
    assert {cell.identity for cell in Runner(store, changed.cells.values(), 1).waiting} == new


def test_the_configuration_of_a_stage_has_its_seed_its_folder_and_its_adapter(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    for cell in study.cells.values():
        config = execution.stage_config(cell, store)
        assert config["seed_everything"] == config["data"]["init_args"]["seed"] == cell.seed
        assert config["trainer"]["default_root_dir"] == str(store.folder(cell))
        assert config["trainer"]["callbacks"][-1]["class_path"] == "src.studies.run.progress.StageProgress"
        if cell.stage == "pretrain":
            assert config["model"]["init_args"]["seed"] == cell.seed
        else:
            assert "seed" not in config["model"]["init_args"]  # SemanticSegmentation has none
            adapter = config["model"]["init_args"].get("backbone", {}).get("init_args", {}).get("adapter")
            assert adapter == (str(store.folder(cell.needs) / "adapter.safetensors") if cell.needs else None)


def test_a_failing_cell_stops_only_what_needs_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "cells")
    broken = next(cell for cell in study.cells.values() if cell.stage == "pretrain" and cell.seed == 1)
    monkeypatch.setenv("QUICK_STAGE_FAILS", broken.identity)
    failed = Runner(store, study.cells.values(), 1).run()
    assert failed[0].identity == broken.identity
    assert {cell.identity for cell in failed[1:]} == {
        cell.identity for cell in study.cells.values() if cell.needs == broken
    }
    assert len([cell for cell in study.cells.values() if store.done(cell)]) == len(study.cells) - 3
    failure = store.failure(broken)
    assert failure is not None
    assert failure["log"] == ["first line", "the reason why"]
    assert failure["reason"] == "exit code 3"
    assert "FAILED" in capsys.readouterr().out
    monkeypatch.setenv("QUICK_STAGE_FAILS", "none")
    assert Runner(store, study.cells.values(), 1).run() == []  # what failed is tried again
    assert store.failure(broken) is None


def test_a_stage_that_leaves_no_result_has_failed(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "STAGE", (sys.executable, "-c", "pass"))
    store = Store(tmp_path / "cells")
    assert len(Runner(store, study.cells.values(), 2).run()) == len(study.cells)
    failure = store.failure(next(iter(study.cells.values())))
    assert failure == {"title": next(iter(study.cells.values())).title, "reason": "exit code 0", "log": []}


def test_a_cell_that_another_process_runs_is_waited_for(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.studies.run.runner.RETRY", 0.05)
    store = Store(tmp_path / "cells")
    first = next(iter(study.cells.values()))
    runner = Runner(store, [first], 1)
    with locked(store.folder(first) / "lock"):
        runner._look_after(runner.slots[0])
        assert runner.waiting == [first]
        assert runner.slots[0].work is None
        assert "another process is running it, waiting" in capsys.readouterr().out
    assert runner.run() == []
    assert store.done(first)


@pytest.mark.slow
def test_two_studies_at_once_share_the_work(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    processes = [start(tmp_path, store.root, jobs=2) for _ in range(2)]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    assert completions(study, store) == [1] * len(study.cells)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_it_ends_as_if_it_never_was(study: Study, tmp_path: Path) -> None:
    calm = Store(tmp_path / "calm")
    began = time.monotonic()
    assert start(tmp_path, calm.root).wait(timeout=200) == 0
    duration = time.monotonic() - began
    moments, kills, number = random.Random(0), 0, 0
    while kills < 20:  # each within a study that has work left; a finished one is checked, and the next begins
        store, code = Store(tmp_path / f"cells{number}"), None
        while code != 0:
            process = start(tmp_path, store.root)
            time.sleep(moments.uniform(0.1, 0.7) * duration)
            if process.poll() is None and kills < 20:
                process.send_signal(signal.SIGKILL)
                kills += 1
            code = process.wait(timeout=200)
        assert metrics(study, store) == metrics(study, calm)
        assert max(completions(study, store)) == 1
        assert not list(store.root.glob("*/lock*"))
        number += 1


def test_ctrl_c_ends_the_running_cell_and_frees_its_lock(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    process = start(tmp_path, store.root, pause=60)
    deadline = time.monotonic() + 60
    while not list(store.root.glob("*/lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = read_json(next(iter(store.root.glob("*/lock"))))["processes"]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=100) != 0
    assert not list(store.root.glob("*/lock"))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_when_its_time_is_over_it_stops_and_goes_on_later(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cells")
    monkeypatch.setenv("QUICK_STAGE_PAUSE", "60")
    runner = Runner(store, study.cells.values(), 1, seconds=0.5)
    began = time.monotonic()
    assert runner.run() == []
    assert runner.out_of_time
    assert time.monotonic() - began < 30
    assert completions(study, store) == [0] * len(study.cells)
    assert not list(store.root.glob("*/lock"))
    monkeypatch.setenv("QUICK_STAGE_PAUSE", "0")
    rest = Runner(store, study.cells.values(), 1)
    rest.run()
    assert not rest.out_of_time
    assert completions(study, store) == [1] * len(study.cells)


@pytest.mark.parametrize("stage", ["pretrain", "evaluate"])
def test_every_stage_resumes_and_the_console_says_at_which_step(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    store = Store(tmp_path / "cells")
    cell = next(cell for cell in study.cells.values() if cell.stage == stage and cell.needs is None)
    monkeypatch.setenv("QUICK_STAGE_PAUSE", "20")
    runner = Runner(store, [cell], 1)
    runner._look_after(runner.slots[0])
    work, checkpoint = runner.slots[0].work, store.folder(cell) / "checkpoints" / "last.ckpt"
    assert work is not None
    deadline = time.monotonic() + 60
    while not (checkpoint.is_file() and int(checkpoint.read_text()) >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    work.process.kill()
    work.process.wait()
    runner.slots[0].clear()
    step = int(checkpoint.read_text())
    monkeypatch.setenv("QUICK_STAGE_PAUSE", "3")
    assert Runner(store, [cell], 1).run() == []
    assert f"{cell.title}: resumed at step {step}" in capsys.readouterr().out
    steps = list(map(int, (store.folder(cell) / "steps").read_text().split()))
    assert steps[-1] == 10 and len(steps) <= 11  # one may have been made and not kept


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "{}", '{"values": 3}', "\0\0", "9" * 5000])
def test_a_damaged_result_is_computed_again(
    study: Study, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "cells")
    cell = next(cell for cell in study.cells.values() if cell.stage == "evaluate" and cell.needs is None)
    file = store.folder(cell) / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert not store.done(cell)
    assert f"{file}: expected" in capsys.readouterr().err
    assert Runner(store, [cell], 1).run() == []
    assert store.done(cell)


def test_gpus_are_those_that_the_environment_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_accelerators() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_accelerators() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("src.studies.run.runner.accelerators", lambda: ["A", "B"])
    assert visible_accelerators() == ["0", "1"]
    cells = Runner(Store(Path("none")), [], jobs=3)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in cells.slots] == ["0", "1", "0"]
