"""Two processes of which one fails: the other ends, and the last line says which one it was and why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.callbacks.launcher import WatchedLauncher, is_lost_peer, leave_note, story
from src.callbacks.shared_files import Seen, difference
from src.core.errors import MissingFile, UserError
from tests.command_line import ROOT, pretraining, written
from tests.datamodules.pictures import gradient, save


def fit(folder: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Fit on two processes, as a user does; they end in time, whatever happens."""
    command = [sys.executable, "-m", "src", "fit", "--config", written(folder / "fit.yaml", config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("GLARE_TRACEBACK", None)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


def config(folder: Path, failing: str | None = None, **arguments: Any) -> dict[str, Any]:
    callbacks = [{"class_path": f"tests.callbacks.failing.{failing}", "init_args": arguments}] if failing else []
    return pretraining(folder / "run", devices=2, max_steps=6, callbacks=callbacks)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error:")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("failing", ["KillRank", "HangRank"])
def test_a_killed_rank_ends_the_other_one_and_is_named(tmp_path: Path, failing: str) -> None:
    done = fit(tmp_path, config(tmp_path, failing, rank=1))
    assert done.returncode == 1, done.stderr
    assert len(errors(done)) == 1
    assert re.match(r"error: rank 1 \(process \d+ on .+\) was killed by SIGKILL; the other", errors(done)[0])
    assert done.stderr.strip().splitlines()[-1] == errors(done)[0]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_killed_rank_0_the_other_one_ends_and_says_so(tmp_path: Path) -> None:
    done = fit(tmp_path, config(tmp_path, "KillRank", rank=0))
    assert done.returncode == -signal.SIGKILL
    assert len(errors(done)) == 1
    assert re.match(r"error: the first process of .+ \(\d+\) is gone; stopping the others", errors(done)[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bad_file_on_one_rank_is_the_last_thing_printed(tmp_path: Path) -> None:
    for index in range(8):
        save(tmp_path / "images" / f"{index}.png", gradient(64, 64))
    bad = tmp_path / "images" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    content = config(tmp_path)
    arguments = {"task": "pretrain", "root": str(tmp_path / "images"), "size": 32, "batch_size": 4, "num_workers": 0}
    content["data"] = {"class_path": "datamodules.folder.FolderDataModule", "init_args": arguments}
    done = fit(tmp_path, content)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and str(bad) in last
    assert len(errors(done)) == 1
    assert "Traceback" not in done.stderr


class FakeProcess:
    """A process that has ended."""

    def __init__(self, code: int | None) -> None:
        self.pid, self.code = 7, code

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def launcher(tmp_path: Path) -> WatchedLauncher:
    from lightning.fabric.plugins.environments import LightningEnvironment
    from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    return WatchedLauncher(_SubprocessScriptLauncher(LightningEnvironment(), 3, 1), tmp_path)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((None, -9), r"rank 2 \(process 7 on .+\) was killed by SIGKILL; the other processes were stopped"),
        ((3, -9), r"rank 1 \(process 7 on .+\) ended with exit code 3; the other processes were stopped"),
        ((0, None), "the connection to a process on another node was lost; the logs of the other nodes say why"),
    ],
)
def test_the_story_of_a_process_without_a_note(
    launcher: WatchedLauncher, tmp_path: Path, codes: tuple[int | None, ...], expected: str
) -> None:
    launcher.procs = [FakeProcess(code) for code in codes]  # type: ignore[misc]
    assert re.fullmatch(expected, story(launcher, tmp_path, 0.0))


def test_a_note_comes_before_the_death_of_the_process_that_left_it(launcher: WatchedLauncher, tmp_path: Path) -> None:
    launcher.procs = [FakeProcess(1)]  # type: ignore[list-item]
    leave_note(tmp_path, 1, MissingFile("a.png: no such file"))
    assert re.fullmatch(r"rank 1 \(.+\): a\.png: no such file", story(launcher, tmp_path, 0.0))
    leave_note(tmp_path, 1, ZeroDivisionError("division by zero"))  # a bug
    assert "ZeroDivisionError: division by zero" in story(launcher, tmp_path, 0.0)


def test_which_errors_say_that_another_process_is_gone() -> None:
    gone = [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242",
        "NCCL communicator was aborted on rank 0.",
        "Connection reset by peer",
    ]
    assert all(is_lost_peer(RuntimeError(text)) for text in gone)
    assert not is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost_peer(ValueError(gone[0])) and not is_lost_peer(UserError(gone[0]))


def test_processes_that_see_other_files_are_named() -> None:
    folder = Path("runs/x")
    same = [Seen(rank, "a", True, "8 images (1)") for rank in range(3)]
    assert difference(same, folder) is None
    assert difference([each._replace(data=None) for each in same], folder) is None
    blind = [*same, Seen(3, "b", False, "8 images (1)")]
    told = "runs/x: expected a run folder that all processes share, found that rank 3 (b) cannot see"
    assert str(difference(blind, folder)).startswith(told)
    poor = [*same, Seen(3, "b", True, "7 images (2)")]
    assert "found 8 images (1) on a and 7 images (2) in rank 3 (b)" in str(difference(poor, folder))
