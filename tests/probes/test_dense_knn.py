"""NearestNeighbours against the same steps done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.backbones.backbone import Backbone
from src.config.yaml_reader import read
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.probes.dense_knn import NearestNeighbours
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.command_line import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*", "ignore:.*no optim.*"
)


def probe(**options: object) -> NearestNeighbours:
    names = ["red", "green", "blue"]
    return NearestNeighbours(Backbone("test_vit", "none"), 3, 255, names, **({"neighbours": 5} | options))  # type: ignore


def by_hand(data: BlocksDataModule, k: int, temperature: float) -> np.ndarray:
    """Confusion matrices of all validation images, from all seven training images."""
    backbone = Backbone("test_vit", "none")
    features, fractions = [], []
    train = data.train_dataloader().dataset
    for index in range(len(train)):
        sample = train[index]
        (maps,) = backbone.feature_maps(sample.image[None])
        shares, labelled = patch_fractions(label_counts(sample.mask[None], (5, 7), 3, 255))
        features.append(F.normalize(maps.flatten(2)[0].T, dim=1)[labelled[0]])
        fractions.append(shares[0][labelled[0]])
    bank, labels = torch.cat(features), torch.cat(fractions)
    matrices = np.zeros((5, 3, 3), dtype=np.int64)
    for index, sample in enumerate(data.val_dataloader().dataset[i] for i in range(5)):
        (maps,) = backbone.feature_maps(sample.image[None])
        similarity = F.normalize(maps.flatten(2)[0].T, dim=1) @ bank.T
        values, nearest = similarity.topk(k)
        votes = ((values / temperature).softmax(1)[..., None] * labels[nearest]).sum(1)
        upsampled = F.interpolate(votes.T.view(1, 3, 5, 7), sample.mask.shape, mode="bilinear").argmax(1)[0]
        for true, predicted in zip(sample.mask.flatten().tolist(), upsampled.flatten().tolist(), strict=True):
            if true != 255:
                matrices[index, true, predicted] += 1
    return matrices


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.02)])
def test_a_test_without_a_fit_uses_every_training_image(tmp_path: Path, neighbours: int, temperature: float) -> None:
    data = BlocksDataModule()  # batches of 3 out of 7: a training loader would drop one
    run = trainer(tmp_path)
    run.test(probe(neighbours=neighbours, temperature=temperature), datamodule=data, verbose=False)
    with np.load(tmp_path / "confusion.npz") as stored, torch.no_grad():
        np.testing.assert_array_equal(stored["matrices"], by_hand(data, neighbours, temperature))


def test_a_fit_of_one_epoch_gives_the_same_scores_as_a_test(tmp_path: Path) -> None:
    trainer(tmp_path / "fit", max_epochs=1, num_sanity_val_steps=1).fit(probe(), datamodule=BlocksDataModule())
    trainer(tmp_path / "test").test(probe(), datamodule=BlocksDataModule(), verbose=False)
    fit, test = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("fit", "test"))
    assert fit["miou"] == test["miou"] > 0.5 and fit["images"] == 5


def test_a_smaller_bank_changes_the_scores_by_its_seed_and_the_chunk_changes_nothing(tmp_path: Path) -> None:
    def matrices(**options: object) -> np.ndarray:
        trainer(tmp_path).test(probe(**options), datamodule=BlocksDataModule(), verbose=False)
        with np.load(tmp_path / "confusion.npz") as stored:
            return stored["matrices"]

    small = matrices(max_patches=12)
    np.testing.assert_array_equal(small, matrices(max_patches=12))
    np.testing.assert_array_equal(small, matrices(max_patches=12, chunk=64))
    assert not np.array_equal(small, matrices(max_patches=12, seed=1))
    assert not np.array_equal(small, matrices())


def test_bfloat16_features_vote_in_float32(tmp_path: Path) -> None:
    run = trainer(tmp_path, precision="bf16-mixed")
    model = probe()
    run.test(model, datamodule=BlocksDataModule(), verbose=False)
    assert model._classifier.features.dtype == torch.float32
    assert json.loads((tmp_path / "evaluation.json").read_text())["miou"] > 0.5


def test_a_checkpoint_holds_nothing_that_the_backbone_brings_back(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.test(probe(), datamodule=BlocksDataModule(), verbose=False)
    run.save_checkpoint(tmp_path / "knn.ckpt")
    assert torch.load(tmp_path / "knn.ckpt", weights_only=False)["state_dict"] == {}


def test_loaders_alone_are_refused(tmp_path: Path) -> None:
    data = BlocksDataModule()
    with pytest.raises(ValueError, match="needs a data module"):
        trainer(tmp_path).test(probe(), data.test_dataloader(), verbose=False)


@pytest.mark.parametrize("data", ["camvid", "cwfid"])
def test_the_named_in_context_experiment_votes_at_temperature_0_02(data: str) -> None:
    config = read(ROOT / "experiments/segment" / data / "in_context.yaml")
    assert config["model"]["class_path"] == "src.probes.dense_knn.NearestNeighbours"
    settings = config["model"]["init_args"]
    assert (settings["neighbours"], settings["temperature"]) == (30, 0.02)
    assert config["trainer"]["check_val_every_n_epoch"] == config["trainer"]["max_epochs"]  # a fit ends with scores


def test_a_fit_bounded_by_steps_alone_ends_with_scores(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=-1, max_steps=2)
    run.fit(probe(), datamodule=BlocksDataModule())
    assert run.current_epoch == 1 and run.callback_metrics["val/miou"] > 0
