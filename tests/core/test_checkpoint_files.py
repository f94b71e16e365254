"""No kill and no damage loses more than the newest checkpoint."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from src.__main__ import main
from src.core.checkpoint_files import damage, load_checkpoint, save_checkpoint
from src.core.checkpoint_paths import checkpoint_exists, previous_of
from src.core.errors import Unwritable
from tests.command_line import ROOT, losses, pretraining, weights, written

MEMORY = Path("/dev/shm")
KILLED_WRITER = ROOT / "tests" / "core" / "killed_writer.py"
MOMENTS = ["half-written", "written", "keep", "replace", "replaced"]


def content(step: int) -> dict[str, Any]:
    return {"step": step, "weight": torch.full((1000,), float(step))}


def kill(moment: str, count: int, *command: str, temporary: Path | None = None) -> None:
    words = [sys.executable, str(KILLED_WRITER), moment, "last.ckpt", str(count), *command]
    environment = {**os.environ, **({"TMPDIR": str(temporary)} if temporary else {})}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    position = whole.index(torch.full((1000,), 2.0).numpy().tobytes()) + 2000
    whole[position] ^= 1
    path.write_bytes(whole)


DAMAGES = {"cut": cut, "empty": empty, "zeros": overwrite, "one bit": flip, "gone": Path.unlink}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_newest_whole_checkpoint_is_loaded(
    moment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.ckpt"
    for step in (1, 2):
        save_checkpoint(content(step), path)
    kill(moment, 1, "save", str(path), "3")
    assert load_checkpoint(path)["step"] == (3 if moment == "replaced" else 2)
    assert capsys.readouterr().err == ""  # nothing was lost: nothing to say
    assert load_checkpoint(previous_of(path))["step"] in (1, 2)
    save_checkpoint(content(4), path)
    assert load_checkpoint(path)["step"] == 4
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last.previous.ckpt"}  # no leftovers


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_replaced_by_the_previous_one(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, previous = tmp_path / "last.ckpt", tmp_path / "last.previous.ckpt"
    for step in (1, 2):
        save_checkpoint(content(step), path)
    DAMAGES[kind](path)
    assert checkpoint_exists(path)
    found = load_checkpoint(path)
    assert found["step"] == 1 and torch.equal(found["weight"], content(1)["weight"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path} ") and line.endswith(f"; using the previous checkpoint, {previous}")


@pytest.mark.parametrize("kind", ["cut", "empty", "zeros", "gone"])
def test_a_damaged_file_never_takes_the_place_of_a_whole_previous_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for step in (1, 2):
        save_checkpoint(content(step), path)
    DAMAGES[kind](path)
    save_checkpoint(content(3), path)
    assert load_checkpoint(path)["step"] == 3
    assert load_checkpoint(previous_of(path))["step"] == 1


@pytest.mark.parametrize("newest", ["cut", "empty", "zeros", "one bit"])
@pytest.mark.parametrize("before", ["cut", "empty", "zeros", "gone"])
def test_if_both_are_damaged_one_line_names_both_and_says_what_to_do(newest: str, before: str, tmp_path: Path) -> None:
    path, previous = tmp_path / "last.ckpt", tmp_path / "last.previous.ckpt"
    for step in (1, 2):
        save_checkpoint(content(step), path)
    DAMAGES[newest](path)
    DAMAGES[before](previous)
    with pytest.raises(ValueError, match="expected a whole checkpoint, found a file that") as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and str(previous) in message and "start again" in message and "\n" not in message


def test_a_file_that_is_nowhere_is_not_found(tmp_path: Path) -> None:
    assert not checkpoint_exists(tmp_path / "last.ckpt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_checkpoint(tmp_path / "last.ckpt")


def test_another_archive_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "folder")
    assert damage(tmp_path / "a.zip") == "is not a checkpoint, but another zip archive"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        save_checkpoint(content(1), tmp_path / name)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["TMPDIR here", "TMPDIR on another file system"])
def test_a_fit_killed_while_it_writes_goes_on_as_if_nothing_had_happened(
    elsewhere: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if elsewhere and not (MEMORY.is_dir() and MEMORY.stat().st_dev != tmp_path.stat().st_dev):
        pytest.skip(f"NOT TESTED: {MEMORY} is no second file system here, so no checkpoint can be copied across two")
    temporary = MEMORY / f"test-{os.getpid()}" if elsewhere else tmp_path / "temporary"
    temporary.mkdir()
    every_step = {"every_n_steps": 1, "min_seconds": 0.0}
    try:
        path = written(tmp_path / "x.yaml", {**pretraining(tmp_path / "run", max_steps=6), "checkpoint": every_step})
        kill("half-written", 4, "fit", "--config", path, temporary=temporary)
    finally:
        shutil.rmtree(temporary)
    assert weights_step(tmp_path / "run") == 3
    assert main(["fit", "--config", path, "--ckpt_path", "last"]) == 0
    whole = pretraining(tmp_path / "whole", max_steps=6)
    assert main(["fit", "--config", written(tmp_path / "whole.yaml", whole)]) == 0
    assert losses(tmp_path / "run")[-3:] == losses(tmp_path / "whole")[-3:]
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "run").items())


def weights_step(run_folder: Path) -> int:
    return int(torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"])


@pytest.mark.parametrize("size", [0, 1_000, 30_000, 60_000, 100_000, 139_000])
def test_a_disk_that_fills_up_anywhere_in_a_checkpoint_is_named_and_keeps_the_one_before(
    tmp_path: Path, size: int
) -> None:
    path, before = tmp_path / "last.ckpt", content(1)
    save_checkpoint(before, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(Unwritable, match=r"last\.ckpt: expected a writable path"):
            save_checkpoint({"a": torch.zeros(20_000), "b": {"c": torch.ones(15_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(load_checkpoint(path)["weight"], before["weight"])
