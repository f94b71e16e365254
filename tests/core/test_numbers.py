"""Settings that are no usable number are refused, and the number is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from src.backbones.adapters import SLR, AdaptFormer, LastBlocks, LoRA, UniAdapter
from src.core.errors import UserError
from src.core.numbers import check_number
from src.pretraining.optimisation import Optimisation

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1e-9, 1.001])
def test_what_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="share: expected a finite number of at least 0 and at most 1, found"):
        check_number("share", value, most=1)


def test_bounds_belong_to_the_range_unless_left_out() -> None:
    check_number("share", 0.0, most=1)
    check_number("share", 1.0, most=1)
    with pytest.raises(UserError, match="clip: expected a finite number above 0, found 0"):
        check_number("clip", 0.0, open_left=True)


@pytest.mark.parametrize("value", [1e38, 10**400, "0.1", None, True])
def test_what_no_optimiser_can_take_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"lr: expected a finite number of at least 0.*, found "):
        check_number("lr", value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda v=v: Optimisation(lr=v), "optimisation.lr: ") for v in (NAN, INF, -1e-3)),
        *((lambda v=v: Optimisation(final_lr=v), "optimisation.final_lr: ") for v in (NAN, INF, -1e-3)),
        (lambda: Optimisation(warmup=1.5), "optimisation.warmup: .* at most 1, found 1.5"),
        (lambda: Optimisation(momentum=-0.1), "optimisation.momentum: "),
        (lambda: Optimisation(clip=0), "optimisation.clip: .* above 0"),
        (lambda: Optimisation(teacher_temperature=(0.04, 0.0)), "optimisation.teacher_temperature: "),
        (lambda: Optimisation(weight_decay=(NAN, 0.1)), "optimisation.weight_decay: "),
        (lambda: Optimisation(lr_batch=0), "optimisation.lr_batch: "),
        *((lambda kind=kind: kind(rank=0), f"{kind.__name__}.*rank") for kind in (UniAdapter, AdaptFormer, LoRA, SLR)),
        (lambda: UniAdapter(scale=NAN), "UniAdapter.*scale"),
        (lambda: LoRA(alpha=0), "LoRA.*alpha"),
        (lambda: LastBlocks(0), "LastBlocks.*count"),
    ],
)
def test_settings_that_train_nothing_or_nan_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
