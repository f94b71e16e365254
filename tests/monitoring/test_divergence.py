"""A head that becomes NaN is neither scored nor saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from src.__main__ import main
from src.callbacks.checkpoint import RunCheckpoint
from src.core.errors import Diverged
from src.monitoring.divergence import DivergenceGuard
from src.segmentation import SemanticSegmentation
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.command_line import pretraining, segmentation
from tests.segmentation.test_module import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


class NanFrom(SemanticSegmentation):
    """Its loss is NaN from one step on."""

    step = 3

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (math.nan if self.global_step >= self.step else 1)


def broken_from(step: int) -> SemanticSegmentation:
    model = tiny()
    model.__class__ = NanFrom
    model.step = step  # type: ignore[assignment]
    return model


@pytest.mark.parametrize(("step", "every"), [(0, 1), (3, 50), (7, 2)])
def test_a_fit_that_becomes_nan_ends_before_it_is_scored(tmp_path: Path, step: int, every: int) -> None:
    checkpoint = RunCheckpoint(every_n_steps=1, min_seconds=0)
    fit = trainer(
        tmp_path,
        max_epochs=4,
        log_every_n_steps=every,
        enable_checkpointing=True,
        callbacks=[DivergenceGuard(), checkpoint],
        check_val_every_n_epoch=4,
    )
    with pytest.raises(Diverged, match=r"stopped at step \d, divergence: .*(nan|NaN).*bf16-mixed"):
        fit.fit(broken_from(step), datamodule=BlocksDataModule())
    assert not (tmp_path / "evaluation.json").exists() and not (tmp_path / "confusion.npz").exists()
    assert fit.global_step <= step + 2


def test_nan_weights_are_found_where_the_loss_is_finite(tmp_path: Path) -> None:
    model = tiny(lr=0.0)
    model.on_train_epoch_end = lambda: model.decoder.linear.weight.data.fill_(math.nan)  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"decoder\.linear\.weight holds NaN"):
        trainer(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[DivergenceGuard()]).fit(
            model, datamodule=BlocksDataModule()
        )


def test_scores_of_an_earlier_epoch_do_not_outlive_the_fit(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        trainer(tmp_path, max_epochs=4, callbacks=[DivergenceGuard()]).fit(
            broken_from(4), datamodule=BlocksDataModule()
        )
    assert not (tmp_path / "evaluation.json").exists() and not (tmp_path / "confusion.npz").exists()


def test_infinite_statistics_are_found_where_loss_and_weights_are_finite(tmp_path: Path) -> None:
    """A loss scaler skips a step that overflows, but batch normalisation has seen it."""
    model = tiny(lr=0.0)
    statistics = model.decoder.norm.running_var
    model.on_train_epoch_end = lambda: statistics.fill_(math.inf)  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"decoder\..*running_var holds NaN or infinite"):
        trainer(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[DivergenceGuard()]).fit(
            model, datamodule=BlocksDataModule()
        )


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_nan_scores_are_no_scores(tmp_path: Path, entry: str) -> None:
    model = tiny()
    model.decoder.linear.bias.data[1] = math.nan
    with pytest.raises(Diverged, match="class scores hold NaN"):
        getattr(trainer(tmp_path), entry)(model, datamodule=BlocksDataModule())
    assert not (tmp_path / "evaluation.json").exists()


def test_a_finite_fit_is_left_alone(tmp_path: Path) -> None:
    fit = trainer(tmp_path, max_epochs=1, log_every_n_steps=1, callbacks=[DivergenceGuard()])
    fit.fit(tiny(), datamodule=BlocksDataModule())
    assert fit.global_step == 2 and (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("config", "precision", "code"),
    [
        (pretraining, "16-true", 1),
        (pretraining, "bf16-true", 1),
        (segmentation, "16-true", 1),
        (segmentation, "bf16-true", 0),
    ],
)
def test_half_precision_is_refused_where_it_cannot_work(
    tmp_path: Path, config: Any, precision: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config(tmp_path / "run", precision=precision)))
    assert main(["fit", "--config", str(tmp_path / "x.yaml")]) == code
    message = capsys.readouterr().err
    assert code == 0 or (f"error: trainer.precision {precision}" in message and "use bf16-mixed" in message)
    assert code == 0 or "Traceback" not in message
    torch.set_default_dtype(torch.float32)


def test_the_command_line_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = SemanticSegmentation.training_step
    monkeypatch.setattr(SemanticSegmentation, "training_step", lambda *inputs: original(*inputs) * math.nan)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(segmentation(tmp_path / "run")))
    assert main(["fit", "--config", str(tmp_path / "x.yaml")]) == 1
    assert "error: stopped at step 1, divergence: the loss is nan" in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert not RunCheckpoint.file(tmp_path / "run").exists()
