"""Run folders that cannot be written, are in the way, full, or deleted during the run: one message, no traceback."""

from __future__ import annotations

import logging
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.__main__ import main
from src.callbacks.checkpoint import RunCheckpoint
from tests.command_line import pretraining, segmentation, written

TASKS: dict[str, Callable[..., dict[str, Any]]] = {"pretrain": pretraining, "segment": segmentation}
RESULTS = {
    "pretrain": ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "adapter.safetensors"),
    "segment": ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "evaluation.json", "confusion.npz"),
}


def file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"in the way")


def folder(path: Path) -> None:
    (path / "in the way").mkdir(parents=True)


PLACES: dict[str, Callable[[Path], Path]] = {
    "a file": lambda base: base / "file",
    "below a file": lambda base: base / "file" / "run",
    "below a device": lambda base: Path("/dev/null/run"),
    "where nothing can be made": lambda base: Path("/proc/run"),
    "a link to nothing": lambda base: base / "link",
    "a name that is too long": lambda base: base / ("x" * 300),
}
IN_THE_WAY: list[tuple[str, str, Callable[[Path], None]]] = [
    *((task, name, folder) for task, names in RESULTS.items() for name in names),
    *((task, "checkpoints", file) for task in RESULTS),
    ("pretrain", "explanations", file),
    ("pretrain", "README.md", folder),
    ("segment", "pictures", file),
    ("segment", "earlier", file),
]


def answer(task: str, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], **trainer: Any) -> str:
    """`done`, or the one message; anything else fails."""
    code = main(["fit", "--config", written(tmp_path / "x.yaml", TASKS[task](run_folder, **trainer))])
    told = capsys.readouterr().err
    assert "Traceback" not in told, told
    messages = [line for line in told.splitlines() if line.startswith("error: ")]
    if code == 0:
        assert not messages
        assert all((run_folder / name).is_file() for name in RESULTS[task])
        return "done"
    assert code in (1, 2) and len(messages) == 1, told
    return messages[0]


@pytest.mark.parametrize("place", PLACES)
def test_a_run_folder_that_cannot_be_made_is_named_before_any_work(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    found = answer("segment", PLACES[place](tmp_path), tmp_path, capsys)
    assert "default_root_dir" in found or str(PLACES[place](tmp_path)) in found


@pytest.mark.parametrize(("task", "name", "put"), IN_THE_WAY, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_is_in_the_way_is_moved_aside_or_named(
    task: str, name: str, put: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    put(run / name)
    found = answer(task, run, tmp_path, capsys)
    assert found == "done" or str(run / name.split("/")[0]) in found


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Limit the size of every file that is written from now on, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(logging, "raiseExceptions", False)  # pytest's own files of what is printed are limited, too
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        def start(*_: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

        monkeypatch.setattr(RunCheckpoint, "on_fit_start", start)

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [100, 5_000])
@pytest.mark.parametrize("task", TASKS)
def test_a_disk_that_is_full_ends_the_run_with_the_file_that_does_not_fit(
    task: str, size: int, small_files: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_files(size)
    found = answer(task, tmp_path / "run", tmp_path, capsys)
    assert str(tmp_path / "run") in found and "File too large" in found


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_that_is_deleted_during_the_run_is_an_error(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(self: RunCheckpoint, *_: Any) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    monkeypatch.setattr(RunCheckpoint, "on_train_batch_start", delete, raising=False)
    found = answer(task, tmp_path / "run", tmp_path, capsys)
    assert str(tmp_path / "run") in found and "deleted" in found
