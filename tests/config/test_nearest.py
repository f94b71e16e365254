"""Suggestions for misspelt and abbreviated words."""

from __future__ import annotations

import pytest

from src.config.nearest import nearest


@pytest.mark.parametrize(
    ("word", "valid", "expected"),
    [
        ("max_step", ["max_steps", "min_steps"], ", did you mean 'max_steps'?"),
        ("learning_rate", ["lr", "lr_batch", "clip"], ", did you mean 'lr'?"),
        ("learning-rate", ["lr", "clip"], ", did you mean 'lr'?"),
        ("wd", ["lr", "weight_decay"], ", did you mean 'weight_decay'?"),
        ("zzz", ["b", "a"], " (valid: a, b)"),
        ("zzz", [], ""),
        ("zzz", [f"n{number}" for number in range(21)], ""),
    ],
)
def test_the_nearest_word(word: str, valid: list[str], expected: str) -> None:
    assert nearest(word, valid) == expected
