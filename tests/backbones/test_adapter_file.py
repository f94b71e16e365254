"""The adapter file brings back exactly what was saved, and refuses everything else."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.backbones.adapter_file import read_metadata
from src.backbones.adapters import SLR, AdaptFormer, BitFit, LastBlocks, LoRA, UniAdapter
from tests.tiny import tiny_backbone

IMAGES = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)


def adapted(monkeypatch, kind, seed: int = 0):
    backbone = tiny_backbone(monkeypatch, seed=seed)
    backbone.install(kind)
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


@pytest.mark.parametrize(
    "kind",
    [
        UniAdapter(rank=4, norm="layernorm"),
        AdaptFormer(4),
        LoRA(2, targets=("q", "fc1")),
        SLR(2),
        BitFit(),
        LastBlocks(1),
    ],
    ids=str,
)
def test_features_come_back_bit_for_bit_with_the_metadata(kind, monkeypatch, tmp_path):
    backbone = adapted(monkeypatch, kind)
    backbone.save_adapter(tmp_path / "adapter.safetensors", step=7, whose="teacher", config_hash="abc")
    fresh = tiny_backbone(monkeypatch)
    metadata = fresh.load_adapter(tmp_path / "adapter.safetensors")
    assert torch.equal(fresh(IMAGES).patches, backbone(IMAGES).patches)
    assert fresh.adapter == kind
    assert (metadata["step"], metadata["whose"], metadata["config_hash"]) == ("7", "teacher", "abc")
    assert metadata["weight_hash"] == backbone.weight_hash and metadata["backbone"] == "vit_tiny_patch16_224"


def test_adapters_are_switched_and_turned_off_on_one_backbone(monkeypatch, tmp_path):
    frozen = tiny_backbone(monkeypatch)(IMAGES).patches
    kinds = {"one": UniAdapter(rank=4), "two": LoRA(rank=2)}
    features = {}
    for name, kind in kinds.items():
        backbone = adapted(monkeypatch, kind)
        features[name] = backbone(IMAGES).patches
        backbone.save_adapter(tmp_path / name, 1, "student")
    backbone = tiny_backbone(monkeypatch)
    for name in ("one", "two", "one"):
        backbone.load_adapter(tmp_path / name)
        assert torch.equal(backbone(IMAGES).patches, features[name])
        with backbone.adapters_off():
            assert torch.equal(backbone(IMAGES).patches, frozen)
    backbone.uninstall()
    assert torch.equal(backbone(IMAGES).patches, frozen)


def test_other_weights_are_refused_with_both_hashes(monkeypatch, tmp_path):
    backbone = adapted(monkeypatch, UniAdapter(rank=4))
    backbone.save_adapter(tmp_path / "a", 1, "teacher")
    other = tiny_backbone(monkeypatch, seed=1)
    with pytest.raises(ValueError, match=f"{backbone.weight_hash}.*{other.weight_hash}"):
        other.load_adapter(tmp_path / "a")


def test_what_is_no_adapter_file_is_named(monkeypatch, tmp_path):
    backbone = tiny_backbone(monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        backbone.load_adapter(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("not tensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        backbone.load_adapter(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="no adapter metadata"):
        backbone.load_adapter(tmp_path / "plain")
    adapted(monkeypatch, UniAdapter(rank=4)).save_adapter(tmp_path / "good", 1, "teacher")
    tensors = load_file(tmp_path / "good")
    tensors.popitem()
    save_file(tensors, tmp_path / "less", read_metadata(tmp_path / "good"))
    with pytest.raises(ValueError, match="does not hold the tensors of its UniAdapter"):
        backbone.load_adapter(tmp_path / "less")
    assert backbone.adapter is None


def test_nothing_to_save_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="carries no adapter"):
        tiny_backbone(monkeypatch).save_adapter(tmp_path / "a", 0, "teacher")


@pytest.mark.parametrize("write", [lambda x, path: torch.save(x, path), save_file], ids=["checkpoint", "safetensors"])
def test_weights_given_as_an_adapter_are_sent_to_their_own_option(write, tmp_path):
    write({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "adapter.safetensors")
    with pytest.raises(ValueError, match=r"a backbone's weights are given as weights.*last\.ckpt as --ckpt_path"):
        read_metadata(tmp_path / "adapter.safetensors")
