"""Contents are told apart wherever files are and whenever they were written; of large sets a share is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core import file_contents
from src.core.file_contents import content_fingerprint, hash_of_files


class Pairs:
    """Images with masks."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def paths(self, index: int) -> tuple[Path, ...]:
        return self.folder / f"{index}.image", self.folder / f"{index}.mask"


def written(folder: Path, count: int) -> Pairs:
    folder.mkdir()
    for index in range(count):
        for kind in ("image", "mask"):
            (folder / f"{index}.{kind}").write_bytes(f"{kind} {index}".encode() * 20)
    return Pairs(folder, count)


def test_every_byte_of_a_small_set_counts_and_its_place_does_not(tmp_path: Path) -> None:
    pairs, copy = written(tmp_path / "a", 5), written(tmp_path / "b", 5)
    found = content_fingerprint(pairs)
    assert len(found) == 32 and content_fingerprint(copy) == found
    for file in sorted(copy.folder.iterdir()):
        content = file.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:place] + b"\0" + content[place + 1 :])
            assert content_fingerprint(copy) != found
        file.write_bytes(content)
    (copy.folder / "3.mask").unlink()
    assert content_fingerprint(copy) != found


def test_of_many_samples_some_are_read_first_and_last_ones_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_contents, "SAMPLES", 4)
    pairs = written(tmp_path / "a", 10)
    found = content_fingerprint(pairs)
    (pairs.folder / "9.mask").write_bytes(b"x")
    assert content_fingerprint(pairs) != found


def test_large_files_count_by_size_and_strips_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_contents, "READ", 400)
    file = tmp_path / "large"
    file.write_bytes(bytes(10_000))
    found = hash_of_files([file])
    for place in (0, 99, 3_350, 9_999):
        file.write_bytes(bytes(place) + b"x" + bytes(10_000 - place - 1))
        assert hash_of_files([file]) != found
    file.write_bytes(bytes(10_001))
    assert hash_of_files([file]) != found
