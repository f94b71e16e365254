"""The converged linear probe and the training-free options against the same steps done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.backbones.backbone import Backbone
from src.evaluation.logistic_probe import fit_logistic_probe
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.evaluation.whitening import WhiteningStatistics
from src.probes.dense_knn import NearestNeighbours
from src.probes.linear import ConvergedLinearProbe
from tests.coloured_blocks import BlocksDataModule, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*", "ignore:.*no optim.*"
)
NAMES = ["red", "green", "blue"]


def features_of(backbone: Backbone, image: torch.Tensor, averaged: bool) -> torch.Tensor:
    if averaged:
        return TestTimeAveraging(lambda images: backbone.feature_maps(images)[-1], backbone.patch_size)(image[None])
    return backbone.feature_maps(image[None])[0]


def training_patches(data: BlocksDataModule, averaged: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    backbone, found = Backbone("test_vit", "none"), []
    train = data.train_dataloader().dataset
    for index in range(len(train)):
        sample = train[index]
        maps = features_of(backbone, sample.image, averaged)
        shares, labelled = patch_fractions(label_counts(sample.mask[None], (5, 7), 3, 255))
        kept = labelled[0]
        found.append((maps.flatten(2)[0].T[kept], shares[0][kept], torch.full((int(kept.sum()),), index)))
    features, shares, owners = (torch.cat(parts) for parts in zip(*found, strict=True))
    return features, shares, owners


@pytest.mark.parametrize("averaged", [False, True])
def test_the_linear_probe_is_the_one_fitted_by_hand(tmp_path: Path, averaged: bool) -> None:
    data = BlocksDataModule()
    module = ConvergedLinearProbe(Backbone("test_vit", "none"), 3, 255, NAMES, averaged=averaged)
    trainer(tmp_path).test(module, datamodule=data, verbose=False)
    with torch.no_grad():
        features, shares, owners = training_patches(data, averaged)
        probe = fit_logistic_probe(features, shares, owners)
        losses, patches = 0.0, 0
        for sample in (data.val_dataloader().dataset[index] for index in range(5)):
            logs = probe.logits(features_of(module.backbone, sample.image, averaged).flatten(2)[0].T).log_softmax(-1)
            soft, labelled = patch_fractions(label_counts(sample.mask[None].long(), (5, 7), 3, 255))
            losses -= float((soft[0][labelled[0]] * logs[labelled[0]]).sum())
            patches += int(labelled.sum())
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["cross_entropy"] == pytest.approx(losses / patches, rel=1e-3)
    assert 0 < evaluation["miou"] <= 1 and 0 < evaluation["average_precision"] <= 1
    assert 0 < evaluation["matched_miou"] <= 1
    with np.load(tmp_path / "probe.npz") as stored, np.load(tmp_path / "confusion.npz") as counted:
        np.testing.assert_array_equal(stored["matrices"], counted["matrices"])


def test_whitened_neighbours_are_those_of_whitened_features(tmp_path: Path) -> None:
    data = BlocksDataModule()
    module = NearestNeighbours(Backbone("test_vit", "none"), 3, 255, NAMES, neighbours=5, whitened=True)
    trainer(tmp_path).test(module, datamodule=data, verbose=False)
    with torch.no_grad():
        statistics = WhiteningStatistics(module.backbone.width)
        train = data.train_dataloader().dataset
        for index in range(len(train)):
            statistics.accumulate(features_of(module.backbone, train[index].image, False).flatten(2)[0].T)
        whitening = statistics.finish()
        features, shares, _ = training_patches(data, False)
        bank = F.normalize(whitening(features), dim=-1)
        sample = data.val_dataloader().dataset[0]
        queries = F.normalize(whitening(features_of(module.backbone, sample.image, False).flatten(2)[0].T), dim=-1)
        values, nearest = (queries @ bank.T).topk(5)
        votes = ((values / 0.07).softmax(1)[..., None] * shares[nearest]).sum(1)
        found = module.class_scores(sample.image[None])[0].flatten(1).T
    torch.testing.assert_close(found, votes, rtol=1e-4, atol=1e-5)
