"""The first line of a fit says what a step is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from src.callbacks.recipe import Recipe, recipe
from src.core import distributed
from src.core.errors import UserError
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.segmentation.test_module import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


def test_the_line() -> None:
    assert recipe(2, 16, 1, 6.25e-5, 440) == "2 processes × 16 = 32 images a step, peak rate 6.25e-05, 440 steps"
    expected = "1 process × 4 × 8 accumulated batches = 32 images a step, peak rate 0.001, 5 steps"
    assert recipe(1, 4, 8, 1e-3, 5) == expected


def test_a_fit_tells_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fit = trainer(tmp_path, max_epochs=2, limit_val_batches=0, accumulate_grad_batches=2, callbacks=[Recipe()])
        fit.fit(tiny(lr=0.02), datamodule=BlocksDataModule(3))
    expected = "1 process × 3 × 2 accumulated batches = 6 images a step, peak rate 0.02, 2 steps"
    assert expected in caplog.messages and fit.global_step == 2


@pytest.mark.parametrize(("batch", "processes", "share"), [(32, 2, 16), (32, 8, 4), (16, 1, 16)])
def test_each_process_takes_its_share(batch: int, processes: int, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "process", lambda: (0, processes))
    assert distributed.share_of_batch(batch) == share


@pytest.mark.parametrize(("batch", "processes", "advice"), [(16, 3, 15), (1, 2, 2), (9, 8, 8)])
def test_a_batch_that_does_not_divide_is_refused(
    batch: int, processes: int, advice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "process", lambda: (0, processes))
    with pytest.raises(UserError, match=f"batch_size {batch} is that of all {processes} .*batch_size to {advice}, or"):
        distributed.share_of_batch(batch)
