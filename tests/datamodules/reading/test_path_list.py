"""A hundred thousand names: what they cost, that workers share them, and that they come back as they were."""

from __future__ import annotations

import multiprocessing
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.reading.path_list import Listing
from datamodules.reading.sources import Files

BASE = Path("/data/images")


def names(count: int) -> list[Path]:
    """Long ones: 55 bytes below the base."""
    return [BASE / f"some_folder/with_another_{i % 97:04d}/a_long_name_{i:09d}.jpg" for i in range(count)]


def test_a_hundred_thousand_files_cost_at_most_120_bytes_each() -> None:
    files = names(100_000)
    assert all(str(file) for file in files)  # a path keeps its text from here on; that is no part of the listing
    tracemalloc.start()
    source = Files(BASE, files)
    retained, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    shared = source.images.nbytes  # torch's memory, of which tracemalloc knows nothing
    assert (retained + shared) / len(source) < 120
    assert [source.images[i] for i in (0, 777, 99_999)] == [files[i] for i in (0, 777, 99_999)]
    assert source.name(42) == files[42].relative_to(BASE).as_posix()


@pytest.mark.parametrize("name", ["n{0:08d}/n{0:08d}_{1}.JPEG", "shard_{0:05d}/{1:08d}.jpg", "{1:012d}.png"])
def test_files_in_folders_cost_at_most_30_bytes_each(name: str) -> None:
    files = [BASE / name.format(i // 1300, i) for i in range(200_000)]
    listing = Listing(BASE, files)
    assert listing.nbytes / len(files) <= 30
    assert [listing[i] for i in (0, 63, 64, 1299, 1300, -1)] == [files[i] for i in (0, 63, 64, 1299, 1300, -1)]


def test_files_of_folders_that_alternate_come_back(tmp_path: Path) -> None:
    files = [BASE / f"{'ab'[i % 2]}/{i}.png" for i in range(300)]
    listing = Listing(BASE, [Path("/x.png"), BASE / "y.png", *files])
    assert list(listing) == [Path("/x.png"), BASE / "y.png", *files]


def test_processes_share_one_copy() -> None:
    listing = Listing(BASE, [BASE / "a.jpg", BASE / "b.jpg"])

    def write() -> None:
        listing._names[0] = ord("z")

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == 0 and list(listing) == [BASE / "z.jpg", BASE / "b.jpg"]


@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"\0/") and name != b".")))
def test_any_name_comes_back(names: list[bytes]) -> None:
    inside = [BASE / os.fsdecode(name) for name in names]
    listing = Listing(BASE, [*inside, Path("/elsewhere/x.png")])
    assert list(listing) == [*inside, Path("/elsewhere/x.png")]


def test_it_is_indexed_as_a_list_is() -> None:
    listing = Listing(BASE, [BASE / f"{i}.png" for i in range(4)])
    assert listing[-1] == BASE / "3.png" and listing[1:3] == [BASE / "1.png", BASE / "2.png"]
    assert len(Listing(BASE, [])) == 0
    with pytest.raises(IndexError):
        listing[4]
