"""Pictures at each validation: the same images, in the run folder and in the loggers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.backbones.backbone import Backbone
from src.callbacks.pictures import SegmentationPictures
from src.explanation.picture_grid import Segmented, picture_grid
from src.segmentation import SemanticSegmentation
from tests.coloured_blocks import COLOURS, BlocksDataModule, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


def model(cached: bool = False) -> SemanticSegmentation:
    torch.manual_seed(0)
    names = ["red", "green", "blue"]
    return SemanticSegmentation(Backbone("test_vit", "none"), 3, class_names=names, cache_features=cached, lr=3e-2)


def expected(scorer: SemanticSegmentation, folder: Path, count: int) -> np.ndarray:
    """The picture as it should be, out of `predict`."""
    data = BlocksDataModule()
    batches = trainer(folder).predict(scorer, datamodule=data)
    blocks = data.sets["val"]
    images = []
    for index, prediction in enumerate([prediction for batch in batches for prediction in batch][:count]):
        seen = Image.fromarray(blocks.image(index)).resize((112, 80), Image.Resampling.BICUBIC)
        shown = np.asarray(seen.resize((56, 40), Image.Resampling.BICUBIC))
        truth = blocks.mask(index).astype(np.int64)
        images.append(Segmented(f"block-{index}.png", shown, truth, prediction.mask.numpy()))
    return picture_grid(images, ["red", "green", "blue"], COLOURS, 255)


@pytest.mark.parametrize("cached", [False, True], ids=["images", "cached features"])
def test_the_last_picture_shows_the_first_images_as_predict_sees_them(tmp_path: Path, cached: bool) -> None:
    scorer = model(cached)
    fit = trainer(tmp_path, max_epochs=2, callbacks=[SegmentationPictures(count=2)])
    fit.fit(scorer, datamodule=BlocksDataModule())
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["val-000002.png", "val-000004.png"]
    drawn = np.asarray(Image.open(tmp_path / "pictures" / "val-000004.png")).astype(int)
    wanted = expected(scorer, tmp_path / "predict", 2).astype(int)
    assert drawn.shape == wanted.shape
    assert (np.abs(drawn - wanted) > 2).mean() < 1e-3  # the input may have been resized by another library


def test_a_small_set_is_shown_whole_and_loggers_get_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = []
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, key, images, step: logged.append((key, images, step)))
    monkeypatch.setattr(WandbLogger, "log_metrics", lambda *_, **__: None)
    loggers = [TensorBoardLogger(tmp_path, "", ""), WandbLogger(save_dir=tmp_path, offline=True)]
    run = trainer(tmp_path, logger=loggers, callbacks=[SegmentationPictures(count=9)])
    run.validate(model(), datamodule=BlocksDataModule(), verbose=False)
    loggers[0].experiment.flush()
    drawn = np.asarray(Image.open(tmp_path / "pictures" / "val-000000.png"))
    ((key, (image,), step),) = logged
    assert (key, step) == ("val/pictures", 0) and np.array_equal(np.asarray(image), drawn)
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Images("val/pictures")
    assert (event.width, event.height) == (drawn.shape[1], drawn.shape[0])
    assert drawn.shape[0] > 5 * 40  # five rows


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    heads = []
    for callbacks in ([], [SegmentationPictures()]):
        scorer = model()
        trainer(tmp_path, max_epochs=2, callbacks=callbacks).fit(scorer, datamodule=BlocksDataModule())
        heads.append(scorer.decoder.state_dict())
    assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())


def test_what_it_cannot_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        SegmentationPictures(count=0)
    run = trainer(tmp_path, callbacks=[SegmentationPictures()])
    with pytest.raises(ValueError, match="needs a data module"):
        run.validate(model(), BlocksDataModule().val_dataloader(), verbose=False)
