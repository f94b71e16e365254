"""Names of predictions: no file ever takes another's place."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.callbacks.prediction_files import folder_of, refuse_among, targets_of, write_whole

PARTS = st.sampled_from(["a", "A", "b.c", "a.jpg", "a.png", "é", "e\u0301", "a.jpg-2"])
NAMES = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
    st.lists(PARTS, max_size=2),
    PARTS,
    st.sampled_from([".jpg", ".png", ".JPG", ".tif"]),
)


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["x/a.png", "x/A.jpg", "a.png", "b.c.tif"], ["x/a.png", "x/A.jpg", "a", "b.c"]),
        (["a.jpg", "a.png", "a.jpg.jpg"], ["a.jpg", "a.png", "a.jpg.jpg"]),
        (["a.jpg", "a/b.jpg", "b.jpg.png", "b.png", "b.tif"], ["a", "a/b", "b.jpg", "b.png", "b.tif"]),
        (["A.jpg", "a.jpg"], ["A.jpg", "a.jpg-2"]),
        (["a.jpg", "a.png/b.jpg"], ["a.jpg", "a.png/b"]),
    ],
)
def test_targets_are_short_where_nothing_collides(names: list[str], targets: list[str]) -> None:
    assert targets_of(names) == targets


@given(st.lists(NAMES, unique=True))
@example(["a.jpg", "a.png", "a.jpg.jpg"])
def test_no_two_images_share_a_file_on_any_disk(names: list[str]) -> None:
    targets = targets_of(names)
    assert [PurePosixPath(target).parent for target in targets] == [PurePosixPath(name).parent for name in names]
    composed = [target.replace("e\u0301", "é").lower() for target in targets]
    assert len(set(composed)) == len(names)
    folders = {str(folder) for target in composed for folder in PurePosixPath(target).parents}
    assert not folders & {target + ending for target in composed for ending in (".png", ".tif", ".npz")}
    assert targets == targets_of(names)


@pytest.mark.parametrize(
    ("names", "folder"),
    [(["a.png", "b/c.png"], "."), (["b/c.png", "b/d/e.png"], "b"), (["Test/x/1.png", "Test/y/1.png"], "Test")],
)
def test_the_folder_of_images_is_the_deepest_that_holds_all(names: list[str], folder: str) -> None:
    assert folder_of(Path("root"), names) == Path("root") / folder


def test_output_beside_the_images_is_allowed_and_among_them_is_not(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    refuse_among(tmp_path / "images-predictions", images)
    for output in (images, images / "out", tmp_path / "link/out", images / "../images/out"):
        with pytest.raises(ValueError, match=r"choose another --predictions\.output, such as .*/images-predictions$"):
            refuse_among(output, images)


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    write_whole(tmp_path / "deep/m.png", lambda path: path.write_text("whole"))
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "deep/m.png", fails)
    assert (tmp_path / "deep/m.png").read_text() == "whole"
