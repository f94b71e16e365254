"""The reference for runs without masks: what it holds, and how it counts."""

from __future__ import annotations

import itertools

import pytest

from src.core.errors import UserError
from src.evaluation.structure_reference import MeasuredRun, agreement, measured_runs, moved_alike


def runs(*changes: tuple[float, float]) -> tuple[MeasuredRun, ...]:
    return tuple(MeasuredRun("scenes", f"setting {i}", *pair) for i, pair in enumerate(changes))


def test_agreement_is_that_of_counted_pairs() -> None:
    pairs = [(0.1, 1.0), (0.3, 0.5), (-0.2, -1.0), (0.05, -2.0)]
    found = agreement(runs(*pairs))
    signs = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in itertools.combinations(pairs, 2)]
    assert found.tau == pytest.approx(sum(1 if sign > 0 else -1 for sign in signs) / len(signs))
    assert (found.same_sign, found.runs) == (3, 4)


def test_runs_that_moved_the_same_way_are_counted_among_gains_and_losses() -> None:
    reference = runs((0.1, 1.0), (0.2, 0.5), (-0.1, 2.0), (-0.2, -1.0), (0.1, -0.5))
    assert "It rose as in 2 of 3 measured runs that gained and 1 of 2 that did not" in moved_alike(0.01, reference)
    assert "It fell as in 1 of 3 measured runs that gained and 1 of 2 that did not" in moved_alike(-0.3, reference)


def test_two_runs_are_too_few() -> None:
    with pytest.raises(UserError, match="at least 3 runs, found 2"):
        agreement(runs((0.1, 1.0), (0.2, 0.5)))


def test_the_packaged_runs_are_of_several_domains_and_settings() -> None:
    found = measured_runs()
    assert len({run.domain for run in found}) >= 3
    assert len({run.setting for run in found}) >= 3
    assert len(set(found)) == len(found)
