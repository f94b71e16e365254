"""Whole images, classified from the class tokens of a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.nn import functional as F

from datamodules.folder.class_folders import ClassFolders
from src.backbones.backbone import Backbone
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
    with np.load(tmp_path / "confusion.npz") as file:
        matrices = file["matrices"]
    assert matrices.sum(axis=(1, 2)).tolist() == [1] * 8  # an image counts once, whatever its size
    assert evaluation["accuracy"] == np.trace(matrices.sum(0)) / 8 == 1.0


def test_the_nearest_images_vote() -> None:
    tokens = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=-1)
    nearest = NearestImages(neighbours=2, temperature=0.1)
    nearest.fit(tokens, torch.eye(3))
    query = F.normalize(torch.tensor([[1.0, 0.02]]), dim=-1)
    weights = ((query @ tokens[:2].T) / 0.1).softmax(dim=-1)[0]
    torch.testing.assert_close(nearest.scores(query), torch.stack([*weights, torch.tensor(0.0)])[None])
