"""A resumed run goes on with the images that it was trained on, or says that they changed."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datamodules.sampling.resume_state import ResumeState
from datamodules.sampling.samplers import EpochSampler
from src.core.errors import UserError


@dataclass
class Images:
    """Names of images, and their folder if they are files."""

    names: list[str]
    folder: Path | None = field(default=None)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def paths(self, index: int) -> tuple[Path, ...]:
        return () if self.folder is None else (self.folder / self.names[index],)


def followed(names: list[str], state: dict[str, object] | None = None, folder: Path | None = None) -> ResumeState:
    resume = ResumeState()
    if state is not None:
        resume.restore(state)
    resume.follow(None, EpochSampler(len(names), 2, 0, resume.consumed), 2, Images(names, folder))  # type: ignore[arg-type]
    return resume


BEFORE = ["a.png", "ä b.png", "c.png", "d.png"]


def test_the_same_images_are_no_news() -> None:
    state = followed(BEFORE).state()
    assert state["images"] == 4 and followed(BEFORE, state).state() == state
    assert followed(BEFORE, {"samples": 3}).state()["images"] == 4  # of earlier versions, which did not say


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (BEFORE[:3], "4 images, found 3"),
        ([*BEFORE, "e.png"], "4 images, found 5"),
        ([*BEFORE[:3], "e.png"], "4 images, found as many with other names"),
        (["a.pngä b", ".png", "c.png", "d.png"], "as many with other names"),
    ],
)
def test_other_images_are_refused_with_both_numbers(now: list[str], found: str) -> None:
    with pytest.raises(UserError, match=f"{found}; restore the same images"):
        followed(now, followed(BEFORE).state())


def test_other_contents_under_the_same_names_are_told_and_copies_are_not(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name in names:
            (tmp_path / place / name).write_bytes(name.encode())
    state = followed(names, folder=tmp_path / "here").state()
    os.utime(tmp_path / "there" / "a.png", (1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert followed(names, state, tmp_path / "there").state() == state
        earlier = {key: value for key, value in state.items() if key != "contents"}
        followed(names, earlier, tmp_path / "there")
    (tmp_path / "there" / "b.png").write_bytes(b"B.png")
    with pytest.warns(UserWarning, match="3 images with the same names but other contents"):
        followed(names, state, tmp_path / "there")
