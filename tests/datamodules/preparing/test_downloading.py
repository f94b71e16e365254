"""Downloads from a server on this machine: interrupted, resumed, changed, refused."""

from __future__ import annotations

import hashlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.preparing import downloading
from datamodules.preparing.downloading import Download, DownloadError, fetch
from src.core.errors import Unwritable
from tests.datamodules.preparing.local_server import LocalServer, serving

CONTENT = bytes(range(256)) * 400
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setattr(downloading, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        state.files["/a.zip"] = CONTENT
        yield state


def of(server: LocalServer, digest: str | None = SHA) -> Download:
    return Download("a.zip", (f"{server.url}/a.zip",), digest)


@pytest.mark.parametrize("digest", [SHA, None])
def test_an_interrupted_download_goes_on_where_it_was(server: LocalServer, tmp_path: Path, digest: str | None) -> None:
    server.break_after = [1000, 5000]
    path = fetch(of(server, digest), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000-", "bytes=6000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_another_process_goes_on_with_what_the_first_left(server: LocalServer, tmp_path: Path) -> None:
    server.break_after = [1000] + [0] * 9
    with pytest.raises(
        DownloadError, match=r"the connection closed before the end of the file\); run the command again"
    ):
        fetch(of(server), tmp_path)
    assert not (tmp_path / "a.zip").exists() and (tmp_path / "a.zip.part").stat().st_size == 1000
    server.break_after, server.asked = [], []
    assert fetch(of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_file_that_changed_in_between_starts_over(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"old" * 10)
    (tmp_path / "a.zip.part.etag").write_text('"another version"')
    assert fetch(of(server, None), tmp_path).read_bytes() == CONTENT
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.zip.part").write_bytes(b"old" * 10)  # without checksum or version it can't be trusted
    assert fetch(of(server, None), tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it(server: LocalServer, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [1000]
    assert fetch(of(server), tmp_path).read_bytes() == CONTENT


def test_a_part_that_was_complete_is_taken(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(of(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server: LocalServer, tmp_path: Path) -> None:
    server.files["/a.zip"] = CONTENT[:-1] + b"!"
    found = hashlib.sha256(server.files["/a.zip"]).hexdigest()
    with pytest.raises(DownloadError, match=rf"http\S+/a\.zip: expected sha256 {SHA[7:]}, found {found}\); run the"):
        fetch(of(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_second_place_is_asked_where_the_first_has_nothing(server: LocalServer, tmp_path: Path) -> None:
    download = Download("a.zip", (f"{server.url}/gone", f"{server.url}/a.zip"), SHA)
    assert fetch(download, tmp_path).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"gone: HTTP Error 404"):
        fetch(Download("b.zip", (f"{server.url}/gone",), None), tmp_path)


def test_a_dead_link_that_answers_does_not_hide_the_mirror(server: LocalServer, tmp_path: Path) -> None:
    server.files["/moved"] = b"<html>We have moved</html>"
    download = Download("a.zip", (f"{server.url}/moved", f"{server.url}/a.zip"), SHA)
    assert fetch(download, tmp_path).read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]
    everywhere = Download("b.zip", (f"{server.url}/moved", f"{server.url}/gone"), SHA)
    with pytest.raises(DownloadError, match=r"/moved: expected sha256 .*, found .*; http\S+/gone: HTTP Error 404"):
        fetch(everywhere, tmp_path)


def test_a_file_that_was_put_there_by_hand_is_checked(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"another file")
    found = hashlib.sha256(b"another file").hexdigest()
    with pytest.raises(DownloadError, match=rf"{path}: expected sha256 {SHA[7:]}, found {found}; replace or remove it"):
        fetch(of(server), tmp_path)
    path.write_bytes(CONTENT)
    assert fetch(of(server), tmp_path) == path and server.asked == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow past 1,000 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_is_no_fault_of_the_network(
    server: LocalServer, tmp_path: Path, small_files: None
) -> None:
    with pytest.raises(Unwritable, match=r"a\.zip\.part: expected a writable path.*free space"):
        fetch(of(server), tmp_path)
    assert server.asked == [""]  # once


def test_too_little_space_is_said_before_the_first_byte(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(Unwritable, match=r"expected 0\.000102 GB of space for the download, found 1e-06 GB"):
        fetch(of(server), tmp_path)
    assert server.asked == [""] and not (tmp_path / "a.zip.part").exists()
