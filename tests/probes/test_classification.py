"""Whole images, classified from the class tokens of a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.nn import functional as F

from datamodules.folder.class_folders import ClassFolders
from datamodules.transforms.segmentation import TrainingTransforms
from src.backbones.backbone import Backbone
from src.core.errors import Diverged, UserError
from src.probes.classification import Classification, LinearClassifier, NearestImages, TokenClassifier


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Bright and dark noise, six images a class to learn from and four to test on, of different sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4)):
        for label, base in (("bright", 180), ("dark", 20)):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = base + rng.integers(40, size=(40 + 8 * index, 48, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("classifier", [NearestImages(neighbours=3), LinearClassifier(penalty=0.01)])
def test_accuracy_is_that_of_images(root: Path, tmp_path: Path, classifier: TokenClassifier) -> None:
    data = ClassFolders(root, task="segment", size=32, batch_size=4, num_workers=0)
    torch.manual_seed(0)
    module = Classification(Backbone("test_vit", "none"), 2, classifier, class_names=data.class_names)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
    )
    trainer.test(module, datamodule=data, verbose=False)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["images"] == 8  # each counts once, whatever its size
    assert evaluation["accuracy"] == evaluation["mean_accuracy"] == 1.0
    assert evaluation["class_accuracy"] == {"bright": 1.0, "dark": 1.0}


class Constant(TokenClassifier):
    """Says the first class of every image."""

    def fit(self, tokens: torch.Tensor, one_hot: torch.Tensor) -> None:
        self.classes, self.labels = one_hot.shape[1], one_hot.argmax(1).tolist()

    def scores(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.one_hot(torch.zeros(len(tokens), dtype=torch.int64), self.classes).float()


def test_scores_by_value(root: Path, tmp_path: Path) -> None:
    (root / "val" / "dark" / "0.png").unlink()
    data = ClassFolders(root, task="segment", size=32, batch_size=4, num_workers=0)
    classifier = Constant()
    module = Classification(Backbone("test_vit", "none"), 2, classifier, class_names=data.class_names)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.validate(module, datamodule=data, verbose=False)
    assert classifier.labels == [0] * 6 + [1] * 6  # each training image once
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["accuracy"] == pytest.approx(4 / 7)
    assert evaluation["mean_accuracy"] == 0.5
    assert evaluation["dice"] == {"bright": pytest.approx(8 / 11), "dark": 0.0}  # F1
    assert trainer.callback_metrics["val/accuracy"] == pytest.approx(4 / 7)
    (predicted, *_) = trainer.predict(module, datamodule=data)
    assert predicted.tolist() == [0] * 4


@pytest.mark.parametrize("bright", ["train", "val"])
def test_features_that_are_not_finite_are_not_scored(root: Path, tmp_path: Path, bright: str) -> None:
    """A backbone that gives NaN for one kind of image, in the fit or only in the evaluation."""
    for file in (root / ("val" if bright == "train" else "train") / "bright").iterdir():
        Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(file)

    class Overflowing(Backbone):
        def forward(self, images: torch.Tensor, attention: bool = False) -> Any:
            features = super().forward(images, attention)
            large = torch.where(images.float().mean((1, 2, 3)) > 128, torch.inf, 1.0)
            return features._replace(cls=features.cls * large[:, None])

    data = ClassFolders(root, task="segment", size=32, batch_size=4, num_workers=0)
    module = Classification(Overflowing("test_vit", "none"), 2, NearestImages(3), class_names=data.class_names)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    with pytest.raises(Diverged, match="expected finite class tokens, found NaN or infinite values"):
        trainer.test(module, datamodule=data, verbose=False)
    assert not (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"evaluation": "native"}, "classification resizes whole images"),
        ({"transforms": TrainingTransforms(32)}, "classification uses images as they are; remove transforms"),
    ],
)
def test_what_acts_on_masks_is_refused(root: Path, option: dict[str, Any], message: str) -> None:
    data = ClassFolders(root, task="segment", size=32, batch_size=4, num_workers=0, **option)
    data.setup("test")
    with pytest.raises(UserError, match=message):
        data.test_dataloader()


def test_the_nearest_images_vote() -> None:
    tokens = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=-1)
    nearest = NearestImages(neighbours=2, temperature=0.1)
    nearest.fit(tokens, torch.eye(3))
    query = F.normalize(torch.tensor([[1.0, 0.02]]), dim=-1)
    weights = ((query @ tokens[:2].T) / 0.1).softmax(dim=-1)[0]
    torch.testing.assert_close(nearest.scores(query), torch.stack([*weights, torch.tensor(0.0)])[None])
