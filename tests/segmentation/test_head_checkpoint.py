"""A head's checkpoint is complete by itself, and no other features or classes pass for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from src.backbones.adapters import SLR, Adapter, AdaptFormer, BitFit, Full, LastBlocks, LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.segmentation import SemanticSegmentation
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.tiny import TINY

KINDS = (UniAdapter(rank=4), AdaptFormer(rank=4), LoRA(rank=2), SLR(rank=2), BitFit(), LastBlocks(count=1), Full())
pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode.*", "ignore:.*isinstance.treespec.*")


def backbone(adapter: Path | None = None, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(TINY, "none", None if adapter is None else str(adapter), **options)


def moved_adapter(path: Path, kind: Adapter, seed: int = 1) -> Path:
    made = backbone()
    made.install(kind)
    torch.manual_seed(seed)
    for _, parameter in made.trainable():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    made.save_adapter(path, 1, "teacher")
    return path


def head(made: Backbone, **options: Any) -> SemanticSegmentation:
    torch.manual_seed(0)
    return SemanticSegmentation(made, 3, class_names=["red", "green", "blue"], **options)


def fitted(folder: Path, model: SemanticSegmentation) -> Path:
    fit = trainer(folder, max_steps=2, limit_val_batches=0)
    fit.fit(model, datamodule=BlocksDataModule())
    fit.save_checkpoint(folder / "head.ckpt")
    return folder / "head.ckpt"


def scores(folder: Path, model: SemanticSegmentation, checkpoint: Path | None, data: Any = None) -> Any:
    data = BlocksDataModule() if data is None else data
    return trainer(folder).test(model, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_the_adapter_comes_with_the_head(tmp_path: Path, kind: Adapter) -> None:
    file = moved_adapter(tmp_path / "a.safetensors", kind)
    trained = head(backbone(file))
    checkpoint = fitted(tmp_path, trained)
    images = torch.rand(2, 3, 32, 32)
    expected = trained.eval().class_scores(images)
    for given in (file, None):  # named again, or left out
        tested = head(backbone(given))
        assert scores(tmp_path, tested, checkpoint) == scores(tmp_path, trained, None)
        assert torch.equal(tested.eval().class_scores(images), expected)
        assert not any(parameter.requires_grad for parameter in tested.backbone.parameters())


def test_an_adapter_at_part_of_its_strength_comes_with_the_head(tmp_path: Path) -> None:
    file = moved_adapter(tmp_path / "a.safetensors", LoRA(rank=2))
    trained = head(backbone(file, adapter_scale=0.5))
    checkpoint = fitted(tmp_path, trained)
    expected = scores(tmp_path, trained, None)
    assert scores(tmp_path, head(backbone()), checkpoint) == expected
    with pytest.raises(ValueError, match=r"adapter_scale=0\.5"):
        scores(tmp_path, head(backbone(file)), checkpoint)


def test_another_adapter_is_refused_with_both(tmp_path: Path) -> None:
    file = moved_adapter(tmp_path / "a.safetensors", UniAdapter(rank=4))
    checkpoint = fitted(tmp_path, head(backbone(file)))
    recorded = torch.load(checkpoint, weights_only=True)["adapter"]
    others = {"overwritten": UniAdapter(rank=4), "other kind": LoRA(rank=2), "other size": UniAdapter(rank=8)}
    for kind in others.values():
        given = head(backbone(moved_adapter(file, kind, seed=2)))
        with pytest.raises(ValueError, match=f"tensors {recorded['tensors']}, and this .* tensors [^,;]*; drop"):
            scores(tmp_path, given, checkpoint)


def test_a_frozen_head_takes_no_adapter(tmp_path: Path) -> None:
    checkpoint = fitted(tmp_path, head(backbone()))
    given = head(backbone(moved_adapter(tmp_path / "a.safetensors", UniAdapter(rank=4))))
    with pytest.raises(
        ValueError, match=r"made with no adapter, and this configuration gives adapter UniAdapter\(.*rank=4"
    ):
        scores(tmp_path, given, checkpoint)


def test_a_fit_resumes_with_the_adapter_it_began_with_alone(tmp_path: Path) -> None:
    file = moved_adapter(tmp_path / "a.safetensors", UniAdapter(rank=4))
    checkpoint = fitted(tmp_path, head(backbone(file), train="head+adapters"))
    resumed = head(backbone(file), train="head+adapters")
    trainer(tmp_path, max_steps=4, limit_val_batches=0).fit(
        resumed, datamodule=BlocksDataModule(), ckpt_path=checkpoint
    )
    for given in (None, moved_adapter(file, UniAdapter(rank=4), seed=2)):
        options: dict[str, Any] = {"train": "head+adapters", "adapter": UniAdapter(rank=4)}
        with pytest.raises(ValueError, match=r"the checkpoint was made with .*; resume with the config.yaml"):
            trainer(tmp_path, max_steps=4).fit(
                head(backbone(given), **options), datamodule=BlocksDataModule(), ckpt_path=checkpoint
            )


def test_an_adapter_that_started_as_the_identity_is_tested(tmp_path: Path) -> None:
    options: dict[str, Any] = {"train": "head+adapters", "adapter": UniAdapter(rank=4), "lr": 0.1}
    trained = head(backbone(), **options)
    checkpoint = fitted(tmp_path, trained)
    expected = scores(tmp_path, trained, None)
    assert scores(tmp_path, head(backbone(), **options), checkpoint) == expected
    assert scores(tmp_path, head(backbone()), checkpoint) == expected


@pytest.mark.parametrize("key", ["network", "positions", "second_class_token", "mean", "std", "weight_hash", "name"])
def test_other_features_are_refused_with_both_values(tmp_path: Path, key: str) -> None:
    checkpoint = torch.load(fitted(tmp_path, head(backbone())), weights_only=True)
    checkpoint["backbone"][key] = "another"
    with pytest.raises(ValueError, match=r"made for the backbone .*another.*, and this one is test_vit"):
        head(backbone()).on_load_checkpoint(checkpoint)


def test_positions_and_network_of_the_configuration_are_compared(tmp_path: Path) -> None:
    checkpoint = fitted(tmp_path, head(backbone()))
    with pytest.raises(ValueError, match="positions timm, and this one is test_vit with positions original"):
        scores(tmp_path, head(backbone(positions="original")), checkpoint)


def test_another_size_or_library_warns(tmp_path: Path) -> None:
    checkpoint = fitted(tmp_path, head(backbone()))
    content = torch.load(checkpoint, weights_only=True)
    content["input_size"], content["versions"]["timm"] = [64, 64], "0.1"
    torch.save(content, checkpoint)
    with pytest.warns(UserWarning) as told:
        scores(tmp_path, head(backbone()), checkpoint)
    messages = "\n".join(str(warning.message) for warning in told)
    assert "trained on images of 64×64 px and sees 80×112 px" in messages and "timm 0.1 (now " in messages


def test_other_classes_are_refused(tmp_path: Path) -> None:
    checkpoint = fitted(tmp_path, head(backbone()))

    class Renamed(BlocksDataModule):
        class_names = property(lambda self: ["polyp", "ulcer", "bleeding"])  # type: ignore[assignment]

    class Shifted(BlocksDataModule):
        ids = class_ids = property(lambda self: [1, 2, 3])  # type: ignore[assignment]

    for data, values in (
        (Renamed(), "0 red, 1 green, 2 blue, found 0 polyp, 1 ulcer, 2 bleeding"),
        (Shifted(), "0 red, 1 green, 2 blue, found 1 red, 2 green, 3 blue"),
    ):
        with pytest.raises(ValueError, match=values):
            scores(tmp_path, head(backbone()), checkpoint, data)


def test_a_head_that_was_given_no_names_is_known_by_those_of_its_data(tmp_path: Path) -> None:
    def nameless() -> SemanticSegmentation:
        return SemanticSegmentation(backbone(), 3)

    checkpoint = fitted(tmp_path, nameless())
    assert torch.load(checkpoint, weights_only=True)["classes"]["names"] == ["red", "green", "blue"]
    for again in (nameless(), head(backbone())):
        fit = trainer(tmp_path / "resumed", max_steps=3, limit_val_batches=0)
        fit.fit(again, datamodule=BlocksDataModule(), ckpt_path=checkpoint, weights_only=True)
        assert fit.global_step == 3


def test_a_broken_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    content = torch.load(fitted(tmp_path, head(backbone())), weights_only=True)
    content["state_dict"]["decoder.linear.bias"][0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values in decoder\.linear\.bias: its training diverged"):
        head(backbone()).on_load_checkpoint(content)
    with pytest.raises(ValueError, match="not a head's checkpoint, or an earlier version"):
        head(backbone()).on_load_checkpoint({"state_dict": content["state_dict"]})
