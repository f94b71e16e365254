"""Scores, files and predictions that every segmenting module shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.batches import SegmentationBatch
from src.backbones.backbone import Backbone
from src.callbacks.pictures import SegmentationPictures
from src.core.errors import Diverged
from src.evaluation.boundary import BoundaryPerImage, boundary_iou
from src.segmentation.evaluation_loop import ScoredSegmentation
from tests.coloured_blocks import BlocksDataModule, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


class BrightestChannel(ScoredSegmentation):
    """Takes the mean colour of each 16×16 patch for its class scores; never says blue on the left half."""

    def class_scores(self, images: Tensor) -> Tensor:
        scores = torch.nn.functional.avg_pool2d(images.float(), 16)
        scores[:, 2, :, : scores.shape[-1] // 2] = 0
        return scores


def model(boundary: float | None = None) -> BrightestChannel:
    return BrightestChannel(Backbone("test_vit", "none"), 3, 255, ["red", "green", "blue"], boundary)


def expected_matrices(predictions: list, data: BlocksDataModule) -> np.ndarray:
    matrices = np.zeros((len(predictions), 3, 3), dtype=np.int64)
    for image, prediction in enumerate(predictions):
        truth = data.sets["val"].mask(image)
        assert prediction.name == f"block-{image}.png" and prediction.mask.shape == truth.shape == (40, 56)
        for true, predicted in zip(truth.ravel(), prediction.mask.numpy().ravel(), strict=True):
            if true != 255:
                matrices[image, true, predicted] += 1
    return matrices


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_files_and_log_hold_the_scores_of_the_predictions_at_native_size(tmp_path: Path, stage: str) -> None:
    data = BlocksDataModule(batch_size=2)
    run = trainer(tmp_path / stage)
    logged = getattr(run, stage)(model(), datamodule=data, verbose=False)[0]
    batches = trainer(tmp_path).predict(model(), datamodule=data)
    matrices = expected_matrices([prediction for batch in batches for prediction in batch], data)
    with np.load(tmp_path / stage / "confusion.npz") as stored:
        assert stored["names"].tolist() == [f"block-{image}.png" for image in range(5)]
        np.testing.assert_array_equal(stored["matrices"], matrices)
    total = matrices.sum(0)
    iou = np.diag(total) / (total.sum(0) + total.sum(1) - np.diag(total))
    written = json.loads((tmp_path / stage / "evaluation.json").read_text(encoding="utf-8"))
    prefix = "val" if stage == "validate" else "test"
    assert 0.3 < iou.mean() < 1  # by chance 0.2
    assert written["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert list(written["iou"].values()) == pytest.approx(iou.tolist(), abs=1e-12)
    assert written["accuracy"] == pytest.approx(np.diag(total).sum() / total.sum(), abs=1e-12)
    assert list(written["class_accuracy"].values()) == pytest.approx((np.diag(total) / total.sum(1)).tolist())
    assert (written["stage"], written["images"], written["absent"]) == (prefix, 5, [])
    assert logged[f"{prefix}/miou"] == pytest.approx(iou.mean())
    assert logged[f"{prefix}/iou/blue"] == pytest.approx(iou[2])
    assert logged[f"{prefix}/accuracy"] == pytest.approx(written["accuracy"])
    dice = 2 * np.diag(total) / (total.sum(0) + total.sum(1))
    assert list(written["dice"].values()) == pytest.approx(dice.tolist(), abs=1e-12)
    assert written["mean_dice"] == pytest.approx(dice.mean(), abs=1e-12)
    assert logged[f"{prefix}/mean_dice"] == pytest.approx(dice.mean())
    assert logged[f"{prefix}/mean_accuracy"] == pytest.approx((np.diag(total) / total.sum(1)).mean())
    assert not [name for name in (*written, *logged) if "boundary" in name]


class Overflowing(BrightestChannel):
    """Gives NaN for the last validation image only, as a sum that overflows in half precision."""

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        self.last = 4 in batch.indices
        super().validation_step(batch, batch_idx)
        self.last = False

    def class_scores(self, images: Tensor) -> Tensor:
        return super().class_scores(images) * (torch.nan if self.last else 1)


def test_a_nan_is_not_forgotten_when_other_images_are_drawn(tmp_path: Path) -> None:
    """Callbacks draw their pictures after the last batch and before the module reports its scores."""
    scorer = Overflowing(Backbone("test_vit", "none"), 3, 255, ["red", "green", "blue"])
    run = trainer(tmp_path, callbacks=[SegmentationPictures(count=2)])
    with pytest.raises(Diverged, match="class scores hold NaN"):
        run.validate(scorer, datamodule=BlocksDataModule(batch_size=1), verbose=False)
    assert (tmp_path / "pictures").is_dir() and not (tmp_path / "evaluation.json").exists()


def test_masks_and_predictions_take_a_byte_a_pixel() -> None:
    batch = next(iter(BlocksDataModule().predict_dataloader()))
    assert {mask.dtype for mask in batch.masks} == {torch.uint8}
    assert {prediction.mask.dtype for prediction in model().predict_step(batch, 0)} == {torch.uint8}


def test_a_class_in_neither_truth_nor_prediction_is_named_and_not_averaged(tmp_path: Path) -> None:
    class FourClasses(BrightestChannel):
        def class_scores(self, images: Tensor) -> Tensor:
            three = super().class_scores(images)
            return torch.cat((three, torch.zeros_like(three[:, :1])), dim=1)

    for names, scorer in (
        (3, model()),
        (4, FourClasses(Backbone("test_vit", "none"), 4, 255, ["red", "green", "blue", "snow"])),
    ):
        logged = trainer(tmp_path / str(names)).validate(scorer, datamodule=BlocksDataModule(), verbose=False)[0]
        assert "val/iou/snow" not in logged
    three, four = (json.loads((tmp_path / n / "evaluation.json").read_text(encoding="utf-8")) for n in "34")
    assert four["absent"] == ["snow"] and four["iou"]["snow"] is None and four["class_accuracy"]["snow"] is None
    assert four["miou"] == three["miou"]


def test_boundary_iou_is_that_of_all_predictions_together(tmp_path: Path) -> None:
    data, counter = BlocksDataModule(batch_size=2), BoundaryPerImage(3, 255, 0.03)
    logged = trainer(tmp_path).validate(model(boundary=0.03), datamodule=data, verbose=False)[0]
    batches = trainer(tmp_path).predict(model(), datamodule=data)
    for image, prediction in enumerate(prediction for batch in batches for prediction in batch):
        counter.update(image, prediction.mask, torch.from_numpy(data.sets["val"].mask(image)))
    expected = boundary_iou(counter.gathered())
    written = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert list(written["boundary_iou"].values()) == expected.tolist() and written["boundary_share"] == 0.03
    assert written["boundary_miou"] == pytest.approx(float(expected.mean()), abs=1e-12)
    assert logged["val/boundary_miou"] == pytest.approx(written["boundary_miou"])


def test_each_evaluation_counts_afresh(tmp_path: Path) -> None:
    scorer, run = model(boundary=0.03), trainer(tmp_path)
    first = run.validate(scorer, datamodule=BlocksDataModule(), verbose=False)
    run.limit_val_batches = 1
    run.validate(scorer, datamodule=BlocksDataModule(batch_size=1), verbose=False)
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["images"] == 1
    run.limit_val_batches = 1.0
    assert run.validate(scorer, datamodule=BlocksDataModule(), verbose=False) == first
