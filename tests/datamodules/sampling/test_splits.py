"""Parts of a data set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.splits import holdout, nested_fraction, split_holdout


def test_a_fifth_is_held_out() -> None:
    assert len(holdout(367)) == 73 and holdout(367) == holdout(367)
    rest, kept = split_holdout(11)
    assert kept == holdout(11) and sorted(rest + kept) == list(range(11))
    with pytest.raises(ValueError, match="expected 5 or more, found 4"):
        split_holdout(4)


@given(st.integers(1, 2000), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 2**31))
def test_smaller_shares_lie_inside_larger_ones(size: int, one: float, two: float, seed: int) -> None:
    small, large = (nested_fraction(size, share, seed) for share in sorted((one, two)))
    assert set(small) <= set(large) <= set(range(size))
    assert len(large) == max(1, round(size * max(one, two))) and large == sorted(set(large))


def test_another_seed_draws_other_labels() -> None:
    assert nested_fraction(1000, 0.01, 0) != nested_fraction(1000, 0.01, 1)
    assert nested_fraction(50, 1.0, 3) == list(range(50))
