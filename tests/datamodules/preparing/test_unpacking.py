"""Hostile and broken archives are refused, and nothing of them is left."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.preparing.unpacking import ArchiveError, is_inside, unpack


def zipped(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, content)
    return path


def tarred(path: Path, entries: list[tuple[str, bytes, bytes]]) -> Path:
    """Each entry: name, type, content (or what a link leads to)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
            else:
                info.linkname = content.decode()
            archive.addfile(info, io.BytesIO(content))
    return path


def everything(name: str) -> str:
    return name


def unpacked(archive: Path, root: Path, max_files: int = 10, max_bytes: int = 10_000) -> dict[str, bytes]:
    root.mkdir(exist_ok=True)
    unpack(archive, root, everything, max_files, max_bytes)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"a/b.png": b"1" * 3000, "ä c.txt": b"2"}
    assert unpacked(zipped(tmp_path / "a.zip", files), tmp_path / "zip") == files
    entries = [(name, tarfile.REGTYPE, content) for name, content in files.items()]
    assert unpacked(tarred(tmp_path / "a.tar.gz", entries), tmp_path / "tar") == files


def test_what_has_no_place_is_left_out(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"top/x.png": b"x", "top/y": b"y"})
    paths = unpack(archive, tmp_path, lambda name: "new/x.png" if name == "top/x.png" else None, 2, 2)
    assert paths == [tmp_path / "new" / "x.png"] and paths[0].read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/out", "..\\out", "C:\\out", "\\\\host\\out"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    with pytest.raises(ArchiveError, match="expected paths that stay inside the folder"):
        unpacked(zipped(tmp_path / "a.zip", {"fine": b"x", name: b"x"}), root)
    with pytest.raises(ArchiveError, match="expected paths that stay inside the folder"):
        unpacked(tarred(tmp_path / "a.tar", [("fine", tarfile.REGTYPE, b"x"), (name, tarfile.REGTYPE, b"x")]), root)
    assert list(root.iterdir()) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "a.zip", "root"]


@given(st.text(st.sampled_from("./\\a:"), max_size=12))
def test_no_name_that_is_let_through_leaves_the_folder(name: str) -> None:
    if is_inside(name):
        root = Path("/somewhere/root")
        parts = [part for part in (root / name).parts if part != "."]
        assert tuple(parts[:3]) == root.parts and ".." not in parts


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "a.tar", [("link", kind, b"/etc/passwd"), ("link/x", tarfile.REGTYPE, b"x")])
    with pytest.raises(ArchiveError, match="found the link or device 'link'"):
        unpacked(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"link": b"/etc/passwd"}, {"link": 0o120777})
    with pytest.raises(ArchiveError, match="found the link or device 'link'"):
        unpacked(archive, tmp_path / "root")


def test_size_and_count_are_bounded_before_anything_is_written(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": b"0" * 1_000_000})
    assert bomb.stat().st_size < 2_000
    many = zipped(tmp_path / "many.zip", {f"{i}": b"" for i in range(11)})
    for archive in (bomb, many):
        with pytest.raises(ArchiveError, match="expected at most 10 files and 10,000 bytes, found more"):
            unpacked(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("skipped", [{"zeros": b"0" * 20_000}, {f"{i}": b"" for i in range(11)}], ids=["size", "count"])
def test_what_is_left_out_is_bounded_as_well(tmp_path: Path, skipped: dict[str, bytes]) -> None:
    entries = [(name, tarfile.REGTYPE, content) for name, content in skipped.items()]
    for archive in (zipped(tmp_path / "a.zip", skipped), tarred(tmp_path / "a.tar.gz", entries)):
        with pytest.raises(ArchiveError, match="expected at most 10 files and 10,000 bytes, found more"):
            unpack(archive, tmp_path, lambda _: None, 10, 10_000)


def test_a_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    entries = [("same", tarfile.REGTYPE, b"one"), ("same", tarfile.REGTYPE, b"two")]
    with pytest.raises(ArchiveError, match="expected each file once"):
        unpacked(tarred(tmp_path / "a.tar", entries), tmp_path / "root")


def test_a_broken_archive_leaves_what_was_there(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"good")
    archive = zipped(tmp_path / "a.zip", {"a": b"1" * 500, "b": bytes(range(256)) * 8})
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        content[file.getinfo("b").header_offset + 60] ^= 255  # a byte of the second file's content
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="expected a complete archive"):
        unpacked(archive, root)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"a": b"good"}
    (tmp_path / "text.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(ArchiveError, match="expected a zip or tar archive, found something else"):
        unpacked(tmp_path / "text.zip", root)


def test_a_name_that_is_no_text_is_a_damaged_archive(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"ä.png": b"x"})
    archive.write_bytes(archive.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(ArchiveError, match="expected a complete archive, found a damaged one"):
        unpacked(archive, tmp_path / "root")
