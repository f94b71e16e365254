"""A resumed run goes on with the images that it was trained on, or says that they changed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from datamodules.sampling.resume_state import ResumeState
from datamodules.sampling.samplers import EpochSampler
from src.core.errors import UserError


@dataclass
class Images:
    """Names of images."""

    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]


def followed(names: list[str], state: dict[str, object] | None = None) -> ResumeState:
    resume = ResumeState()
    if state is not None:
        resume.restore(state)
    resume.follow(None, EpochSampler(len(names), 2, 0, resume.consumed), 2, Images(names))
    return resume


BEFORE = ["a.png", "ä b.png", "c.png", "d.png"]


def test_the_same_images_are_no_news() -> None:
    state = followed(BEFORE).state()
    assert state["images"] == 4 and followed(BEFORE, state).state() == state
    assert followed(BEFORE, {"samples": 3}).state()["images"] == 4  # of earlier versions, which did not say


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (BEFORE[:3], "4 images, and 3 are here"),
        ([*BEFORE, "e.png"], "4 images, and 5 are here"),
        ([*BEFORE[:3], "e.png"], "4 images, and as many with other names are here"),
        (["a.pngä b", ".png", "c.png", "d.png"], "as many with other names are here"),
    ],
)
def test_other_images_are_refused_with_both_numbers(now: list[str], found: str) -> None:
    with pytest.raises(UserError, match=f"{found}; bring back the same images"):
        followed(now, followed(BEFORE).state())
