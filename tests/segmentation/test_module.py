"""SemanticSegmentation by value, on a tiny random ViT."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from datamodules.camvid import CamVidDataModule
from src.backbones import adapters
from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.evaluation.confusion import ImageConfusions
from src.pretraining import ContinualPretraining
from src.segmentation.decoders.linear import LinearDecoder
from src.segmentation.inference import Network, SlidingWindow, Whole
from src.segmentation.module import SemanticSegmentation, rate_factor
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.command_line import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


def tiny(**options: object) -> SemanticSegmentation:
    torch.manual_seed(0)
    settings: dict = {"lr": 3e-2, "ignore_index": 255, "class_names": ["red", "green", "blue"]} | options
    backbone = settings.pop("backbone", None) or Backbone("test_vit", "none")
    return SemanticSegmentation(backbone, 3, **settings)


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def first_batch(data: BlocksDataModule) -> object:
    return next(iter(data.train_dataloader()))


class TestLoss:
    def test_pixels_is_the_cross_entropy_of_upsampled_logits(self, tmp_path: Path) -> None:
        model, batch = tiny(decoder=lambda w, c: LinearDecoder(w, c, batch_norm=False)), first_batch(BlocksDataModule())
        logits = model.decoder.classify(model.backbone.feature_maps(batch.images))
        expected = F.cross_entropy(F.interpolate(logits, (80, 112), mode="bilinear"), batch.masks, ignore_index=255)
        torch.testing.assert_close(model.training_step(batch, 0), expected)

    def test_decoder_grid_is_the_cross_entropy_of_logits_upsampled_by_nearest_neighbour(self) -> None:
        model, batch = tiny(loss_grid="decoder"), first_batch(BlocksDataModule())
        logits = model.decoder.eval().classify(model.backbone.feature_maps(batch.images))
        expected = F.cross_entropy(
            F.interpolate(logits, (80, 112), mode="nearest-exact"), batch.masks, ignore_index=255
        )
        torch.testing.assert_close(model.training_step(batch, 0), expected)

    def test_a_batch_without_a_label_costs_nothing(self) -> None:
        for grid in ("pixels", "decoder"):
            model, batch = tiny(loss_grid=grid), first_batch(BlocksDataModule())
            batch = batch._replace(masks=torch.full_like(batch.masks, 255))
            assert model.training_step(batch, 0).item() == 0


class TestWhatTrains:
    @pytest.mark.parametrize("train", ["head", "head+adapters", "everything"])
    def test_exactly_the_chosen_parameters_move(self, tmp_path: Path, train: str) -> None:
        model = tiny(train=train, adapter=None if train == "head" else UniAdapter(rank=4), backbone_lr=1.0)
        before = state(model)
        trainer(tmp_path, max_steps=3, limit_val_batches=0).fit(model, datamodule=BlocksDataModule())
        for name, parameter in model.named_parameters():
            moved = not torch.equal(parameter, before[name])
            expected = (
                name.startswith("decoder.") or train == "everything" or (train != "head" and "block." not in name)
            )
            if train == "head+adapters" and name.startswith("backbone.") and expected:
                expected = any(name.endswith(adapter) for adapter, _ in model.backbone.trainable())
            assert moved == expected, name

    def test_rates_fall_with_depth_in_the_optimiser(self) -> None:
        model = tiny(train="everything", backbone_lr=0.5, layer_decay=0.8, weight_decay=0.3)
        groups = model.configure_optimizers().param_groups
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
        expected = {1.0, *(0.5 * 0.8**down for down in range(8))}  # head; norm, six blocks, embeddings
        assert {group["lr_factor"] for group in groups} == expected

    def test_everything_is_what_the_head_reaches(self) -> None:
        model = tiny(train="everything", decoder=lambda w, c: LinearDecoder(w, c, blocks=[1, 3]))
        model.training_step(first_batch(BlocksDataModule()), 0).backward()
        learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert learns == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert "backbone.trunk.blocks.3.mlp.fc2.weight" in learns and "backbone.trunk.pos_embed" in learns
        assert not [name for name in learns if name.startswith(("backbone.trunk.blocks.4", "backbone.trunk.norm."))]

    def test_drop_path_acts_in_training_only(self) -> None:
        torch.manual_seed(1)
        images = torch.rand(4, 3, 32, 32)
        model, plain = tiny(train="everything", drop_path=0.9), tiny(train="everything")
        trained, untouched = (m.train().backbone.feature_maps(images)[0] for m in (model, plain))
        assert not torch.equal(trained, untouched)
        evaluated, untouched = (m.eval().backbone.feature_maps(images)[0] for m in (model, plain))
        assert torch.equal(evaluated, untouched)

    def test_a_fresh_adapter_is_the_identity(self) -> None:
        images = torch.rand(2, 3, 32, 32)
        adapted = tiny(train="head+adapters", adapter=UniAdapter(rank=4)).backbone.feature_maps(images)[0]
        assert torch.equal(adapted, tiny().backbone.feature_maps(images)[0])

    def test_frozen_and_adapted_rows_of_a_table_train_the_same_number(self, tmp_path: Path) -> None:
        arguments = yaml.safe_load((ROOT / "experiments/scales/fine-tuning.yaml").read_text())["model"]["init_args"]
        adapter = getattr(adapters, arguments.pop("adapter")["class_path"].rpartition(".")[2])()
        adapted = Backbone("test_vit", "none")
        adapted.install(ContinualPretraining(Backbone("test_vit", "none")).student.backbone.adapter)
        adapted.save_adapter(tmp_path / "a.safetensors", 1, "teacher")
        counts = []
        for file in (None, str(tmp_path / "a.safetensors")):
            model = tiny(backbone=Backbone("test_vit", "none", file), adapter=adapter, **arguments)
            counts.append(sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad))
        assert counts[0] == counts[1] > sum(p.numel() for p in Backbone("test_vit", "none").parameters())

    def test_an_adapter_that_is_there_stays(self) -> None:
        backbone = Backbone("test_vit", "none")
        backbone.install(UniAdapter(rank=4))
        model = SemanticSegmentation(backbone, 3, train="head+adapters", adapter=UniAdapter(rank=8))
        assert model.backbone.adapter == UniAdapter(rank=4)

    def test_a_frozen_backbone_stays_in_evaluation_mode(self) -> None:
        model = tiny().train()
        assert model.decoder.training and not any(child.training for child in model.backbone.modules())
        assert tiny(train="everything").train().backbone.training

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"train": "head+adapters"}, "no adapter of the backbone trains"),
            ({"adapter": UniAdapter(rank=4)}, "it would stay the identity"),
            ({"layer_decay": 0.9}, "act on a backbone that trains"),
            ({"drop_path": 0.1}, "act on a backbone that trains"),
            ({"train": "everything", "cache_features": True}, "cache_features keeps features as they are"),
            ({"class_names": ["red", "red", "blue"]}, "expected one name per class"),
            *(({"lr": value}, "lr: expected a finite number") for value in (float("nan"), float("inf"), -1e-3)),
            ({"backbone_lr": -0.1}, "backbone_lr: expected a finite number"),
            ({"weight_decay": float("nan")}, "weight_decay: expected a finite number"),
            ({"warmup": 1.1}, "warmup: expected a finite number of at least 0 and at most 1"),
        ],
    )
    def test_contradictions_are_refused(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            tiny(**options)


class TestSchedule:
    @pytest.mark.parametrize(
        ("schedule", "step", "factor"),
        [
            ("poly", 0, 1 / 20),
            ("poly", 19, 1.0),
            ("poly", 20, 1.0),
            ("poly", 60, 0.5),
            ("poly", 99, 1 / 80),
            ("poly", 100, 0.0),
            ("poly", 500, 0.0),
            ("cosine", 0, 1 / 20),
            ("cosine", 20, 1.0),
            ("cosine", 40, 0.5 + 0.5 * 0.5**0.5),
            ("cosine", 60, 0.5),
            ("cosine", 500, 0.0),
        ],
    )
    def test_the_rate_is_a_function_of_the_step(self, schedule: str, step: int, factor: float) -> None:
        assert rate_factor(step, 100, 0.2, schedule) == pytest.approx(factor)

    def test_rates_reach_the_optimiser(self, tmp_path: Path) -> None:
        model = tiny(train="everything", lr=0.01, backbone_lr=0.2, warmup=0.0)
        fit = trainer(tmp_path, max_steps=4, limit_val_batches=0)
        fit.fit(model, datamodule=BlocksDataModule())
        assert {round(group["lr"], 9) for group in fit.optimizers[0].param_groups} == {0.0025, 0.0005}  # a quarter left


class TestCheckpoint:
    def test_it_holds_no_frozen_tensor_and_brings_the_head_back(self, tmp_path: Path) -> None:
        model = tiny()
        fit = trainer(tmp_path, max_steps=2, limit_val_batches=0)
        fit.fit(model, datamodule=BlocksDataModule())
        fit.save_checkpoint(tmp_path / "head.ckpt")
        saved = torch.load(tmp_path / "head.ckpt", weights_only=False)["state_dict"]
        assert set(saved) == {f"decoder.{name}" for name in model.decoder.state_dict()}
        other = tiny()
        trainer(tmp_path).test(other, datamodule=BlocksDataModule(), ckpt_path=tmp_path / "head.ckpt", verbose=False)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in saved.items())

    def test_other_weights_and_other_heads_are_refused(self, tmp_path: Path) -> None:
        fit = trainer(tmp_path, max_steps=1, limit_val_batches=0)
        fit.fit(tiny(), datamodule=BlocksDataModule())
        fit.save_checkpoint(tmp_path / "head.ckpt")
        checkpoint = torch.load(tmp_path / "head.ckpt", weights_only=False)
        with pytest.raises(ValueError, match="does not fit this configuration"):
            tiny(decoder=lambda w, c: LinearDecoder(w, c, blocks=[0, 1])).on_load_checkpoint(checkpoint)
        other = tiny()
        other.backbone.weight_hash = "0123"
        with pytest.raises(ValueError, match=r"made for the backbone .*test_vit.* and this one is .*0123"):
            other.on_load_checkpoint(checkpoint)


def test_bfloat16_trains(tmp_path: Path) -> None:
    model = tiny(train="head+adapters", adapter=UniAdapter(rank=4))
    fit = trainer(tmp_path, max_epochs=15, precision="bf16-mixed")
    fit.fit(model, datamodule=BlocksDataModule())
    assert fit.callback_metrics["val/miou"] > 0.4  # by chance 0.2


def test_several_blocks_reach_the_head(tmp_path: Path) -> None:
    model = tiny(decoder=lambda w, c: LinearDecoder(w, c, blocks=[1, 5]), cache_features=True)
    fit = trainer(tmp_path, max_epochs=2)
    fit.fit(model, datamodule=BlocksDataModule())
    maps = model.backbone.feature_maps(torch.rand(1, 3, 32, 32), [1, 5])
    assert model.decoder.linear.weight.shape[1] == sum(level.shape[1] for level in maps)
    assert fit.callback_metrics["val/miou"] > 0


@pytest.mark.skipif("DATA_ROOT" not in os.environ, reason="DATA_ROOT is not set: no real CamVid to segment")
def test_camvid_trains_and_is_scored_at_its_native_size(tmp_path: Path) -> None:
    data = CamVidDataModule(
        Path(os.environ["DATA_ROOT"], "camvid"), task="segment", batch_size=2, size=(64, 96), num_workers=0, cache=False
    )
    model = SemanticSegmentation(Backbone("test_vit", "none"), data.num_classes, class_names=data.class_names)
    trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=2).fit(model, datamodule=data)
    images = ImageConfusions.load(tmp_path / "confusion.npz")
    labelled = images.matrices.sum((1, 2))
    assert len(images.names) == 4 and (labelled <= 360 * 480).all() and (labelled > 0.8 * 360 * 480).all()


class TestInference:
    """Use of inference by the module; the classes of `src.segmentation.inference` have tests of their own."""

    def test_the_chosen_one_predicts(self) -> None:
        batch = next(iter(BlocksDataModule().val_dataloader()))
        for inference in (SlidingWindow(32, 16), Whole(flip=True)):
            model = tiny(inference=inference).eval()
            model.predicts_probabilities = True
            network = Network(model.class_scores, model.probabilities, 16)
            sizes = [(40, 56)] * len(batch.images)
            with torch.no_grad():
                predictions = model.predict_step(batch, 0)
                for prediction, tiles in zip(
                    predictions, inference.tiles(network, batch.images, sizes, probabilities=True), strict=True
                ):
                    for top, left, scores in tiles:
                        place = slice(top, top + scores.shape[1]), slice(left, left + scores.shape[2])
                        assert prediction.probabilities is not None
                        torch.testing.assert_close(prediction.probabilities[:, *place], scores.half())
                        agree = (prediction.mask[place] == scores.argmax(dim=0)).float().mean()
                        assert agree > 0.99  # a single pass compares logits, not their shares

    def test_cached_features_are_of_whole_images_and_a_test_may_see_windows_of_them(self, tmp_path: Path) -> None:
        for inference in (SlidingWindow(32, 16), Whole((1.0, 2.0)), Whole(flip=True)):
            model = tiny(cache_features=True, inference=inference)
            with pytest.raises(ValueError, match="cache_features keeps the features of whole images"):
                trainer(tmp_path, max_steps=1).fit(model, datamodule=BlocksDataModule())
            (scores,) = trainer(tmp_path).test(model, datamodule=BlocksDataModule())
            assert 0 <= scores["test/miou"] <= 1

    def test_cached_features_are_of_one_size(self, tmp_path: Path) -> None:
        data = BlocksDataModule()
        data.evaluation = "native"
        with pytest.raises(ValueError, match="evaluation is 'native'"):
            trainer(tmp_path, max_steps=1).fit(tiny(cache_features=True), datamodule=data)
