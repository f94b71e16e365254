"""A file is the old one or the new one, whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from src.core import atomic_files
from src.core.atomic_files import remove_leftovers, replacing, write_bytes, write_text


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    for text in ("first\r\n", "zweites – «é»"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_bytes() == text.encode()
    write_bytes(tmp_path / "a.txt", b"\0\xff")
    assert (tmp_path / "a.txt").read_bytes() == b"\0\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_changes_nothing(error: type[BaseException], tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), replacing(tmp_path / "a.txt", keep=tmp_path / "before.txt") as part:
        part.write_text("half")
        raise error
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_a_block_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("name", ["a.npz", "no-suffix", "ü" * 127, "a" * 251 + ".png"])
def test_the_temporary_file_is_beside_the_target_hidden_and_of_its_suffix(name: str, tmp_path: Path) -> None:
    with replacing(tmp_path / name) as part:
        assert part.parent == tmp_path and part.name.startswith(".") and part.suffix == Path(name).suffix
        part.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_file_and_folder_are_flushed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    write_text(tmp_path / "a.txt", "new")
    assert done == ["file", "replace", "folder"]


@pytest.mark.parametrize("links", [True, False])
def test_the_replaced_file_is_kept(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no hard links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    for number in range(4):
        with replacing(tmp_path / "a", keep=tmp_path / "b") as part:
            part.write_text(str(number))
        found = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert found == ({"a": "0"} if number == 0 else {"a": str(number), "b": str(number - 1)})


def test_a_kept_file_that_is_the_replaced_one_already_is_no_obstacle(tmp_path: Path) -> None:
    """A kill between the two steps leaves one file with both names."""
    write_text(tmp_path / "a", "0")
    os.link(tmp_path / "a", tmp_path / "b")
    with replacing(tmp_path / "a", keep=tmp_path / "b") as part:
        part.write_text("1")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "1", "b": "0"}


def test_leftovers_of_one_file_are_removed_and_no_other(tmp_path: Path) -> None:
    ours, others = [".part-0123abcd-a.ckpt", ".part-89ef4567-a.ckpt"], [".part-0123abcd-b-a.ckpt", "a.ckpt", ".a.ckpt"]
    for name in [*ours, *others]:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path / "a.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_file_system_that_cannot_flush_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def refuse(folder: Path, *_: object) -> int:
        refused.append(folder)
        raise PermissionError(folder)

    monkeypatch.setattr(os, "open", refuse)
    atomic_files.flush_folder(tmp_path)
    assert refused == [tmp_path]
