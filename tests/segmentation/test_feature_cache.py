"""Training on features that are computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.transforms.segmentation import TrainingTransforms
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.segmentation.test_module import state, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


@pytest.mark.parametrize("loss_grid", ["pixels", "decoder"])
def test_cached_training_is_the_same_and_reads_each_image_once(tmp_path: Path, loss_grid: str) -> None:
    heads, scores = [], []
    for cached in (False, True):
        model, data = tiny(loss_grid=loss_grid, cache_features=cached), BlocksDataModule()
        fit = trainer(tmp_path, max_epochs=5, precision="64-true")  # in batches of other images, bits may differ
        fit.fit(model, datamodule=data)
        heads.append(state(model.decoder))
        scores.append(fit.callback_metrics["val/miou"])
    torch.testing.assert_close(heads[1], heads[0], rtol=0, atol=1e-9)
    assert scores[0] == scores[1] > 0.2
    assert data.sets["train"].reads == 7 and data.sets["val"].reads == 5


def test_a_data_module_with_random_transforms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BlocksDataModule transforms its training images"):
        trainer(tmp_path, max_steps=1).fit(
            tiny(cache_features=True), datamodule=BlocksDataModule(transforms=TrainingTransforms(80))
        )


def test_loaders_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a data module"):
        trainer(tmp_path, max_steps=1).fit(tiny(cache_features=True), BlocksDataModule().train_dataloader())


def test_a_cached_fit_resumes_where_it_was_left(tmp_path: Path) -> None:
    whole, part, rest = (tiny(cache_features=True, schedule="cosine") for _ in range(3))
    trainer(tmp_path, max_epochs=4).fit(whole, datamodule=BlocksDataModule())
    first = trainer(tmp_path, max_epochs=4, limit_val_batches=0)
    first.fit_loop.max_epochs = 4
    part.on_train_epoch_end = lambda: setattr(first, "should_stop", first.current_epoch == 1)  # type: ignore
    first.fit(part, datamodule=BlocksDataModule())
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = trainer(tmp_path, max_epochs=4)
    resumed.fit(rest, datamodule=BlocksDataModule(), ckpt_path=tmp_path / "half.ckpt")
    assert first.global_step == 4 and resumed.global_step == 8
    assert all(torch.equal(value, rest.decoder.state_dict()[name]) for name, value in state(whole.decoder).items())
