"""Files that a later run trusts are whole, or named and ignored."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from src.core.archives import read_arrays, write_arrays
from src.core.atomic_files import make_folder, write_text
from src.core.errors import Unwritable, UserError, one_message
from src.core.json_files import read_json, read_json_list, write_json
from src.core.safetensors_header import count_values

DAMAGED = {
    "empty": b"",
    "blank": b"\n",
    "zeros": b"\0" * 64,
    "cut off": b'{"a": 1, "b": [1, 2',
    "binary": bytes(range(256)),
    "another encoding": '{"ä": 1}'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "null": b"null",
}


@pytest.mark.parametrize("fault", [*DAMAGED, "list", "number", "other keys", "other types", "a truth value"])
def test_a_damaged_mapping_is_named_and_not_there(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {
        "list": b"[1]",
        "number": b"3",
        "other keys": b'{"b": 1}',
        "other types": b'{"a": "1"}',
        "a truth value": b'{"a": true}',
    }
    path = tmp_path / "a.json"
    path.write_bytes((DAMAGED | other)[fault])
    for _ in range(2):
        assert read_json(path, {"a": (int, float)}) is None
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{path}: " in told and "ignored" in told


@pytest.mark.parametrize("fault", [*DAMAGED, "mapping", "list of others"])
def test_a_damaged_list_is_named_and_empty(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes((DAMAGED | {"mapping": b"{}", "list of others": b"[1]"})[fault])
    assert read_json_list(path, {"file": str}) == []
    assert f"{path}: " in capsys.readouterr().err


def test_what_is_not_there_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_json(tmp_path / "a.json") is None
    assert read_json_list(tmp_path / "a.json", {}) == []
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json" / "b.json") is None
    assert read_json(tmp_path / "a.json", {"a": int}) == {"a": 1}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_cut_off_archive_is_refused(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, a=[[1, 2], [3, 4]], names=["x"])
    assert read_arrays(path)["a"].tolist() == [[1, 2], [3, 4]]
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match=r"a\.npz: expected an archive"):
        read_arrays(path)


def test_a_flipped_bit_of_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, a=list(range(2000)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz: expected an archive"):
        read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, (9).to_bytes(8, "little") + b"[1,2,3,4]", bytes(99)])
def test_a_damaged_tensor_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors: expected"):
        count_values(path)


@pytest.mark.parametrize(
    "fault", ["file in the way of the folder", "folder in the way of the file", "full", "read-only"]
)
def test_a_place_that_cannot_be_written_is_named_in_a_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "a.json"
    if fault == "file in the way of the folder":
        (tmp_path / "out").write_text("x")
    elif fault == "folder in the way of the file":
        target.mkdir(parents=True)
    else:
        code = errno.ENOSPC if fault == "full" else errno.EROFS

        def refuse(*_: object) -> None:
            raise OSError(code, "refused")

        monkeypatch.setattr("src.core.atomic_files.os.fsync", refuse)

    def write() -> None:
        make_folder(target.parent)
        write_text(target, "{}")

    with pytest.raises(Unwritable, match=r"out.*: expected a writable path"):
        write()
    with one_message() as outcome:
        write()
    assert outcome.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith(f"error: {tmp_path}")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_a_message_whoever_writes(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with one_message() as outcome:
        raise OSError(code, "it is refused", "runs/log.txt")
    assert outcome.code == 1
    assert capsys.readouterr().err.startswith("error: runs/log.txt: cannot be written (it is refused)")
