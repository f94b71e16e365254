"""LoRA in PEFT's folder format: written for the plain timm model, read under timm's and Hugging Face's names."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.errors import MissingFile, UserError
from tests.backbones.test_adapters import images_for, move
from tests.tiny import FAMILIES, tiny_backbone

everywhere = pytest.mark.parametrize("family", FAMILIES)
ALL = ("q", "k", "v", "proj", "fc1", "fc2")
KINDS = [
    LoRA(rank=2),
    LoRA(rank=3, alpha=4.0, targets=("k", "fc2")),
    LoRA(rank=2, targets=ALL),
    LoRA(rank=2, first_block=1),
]


def adapted(monkeypatch: pytest.MonkeyPatch, family: str, kind: LoRA) -> Backbone:
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    backbone.install(kind)
    move(backbone)
    return backbone


def plain_sum(folder: Path, backbone: Backbone) -> dict[str, torch.Tensor]:
    """Weights as PEFT computes them, `W + (alpha / r) B A`, out of the files alone."""
    config, tensors = json.loads((folder / "adapter_config.json").read_text()), load_file(folder / ADAPTER)
    state = backbone.trunk.state_dict()
    for name in [name for name in tensors if ".lora_A." in name]:
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        down, up = tensors[name], tensors[name.replace("lora_A", "lora_B")]
        alphas = [alpha for end, alpha in config["alpha_pattern"].items() if layer.endswith(f".{end}")]
        ranks = [rank for end, rank in config["rank_pattern"].items() if layer.endswith(f".{end}")]
        assert len(down) == (ranks or [config["r"]])[0]
        assert any(layer.endswith(f".{end}") for end in config["target_modules"])
        state[f"{layer}.weight"] = (
            state[f"{layer}.weight"] + (alphas or [config["lora_alpha"]])[0] / len(down) * up @ down
        )
    return state


ADAPTER = "adapter_model.safetensors"


@everywhere
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_written_folder_means_the_same_features_to_peft_and_comes_back(
    family: str, kind: LoRA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = adapted(monkeypatch, family, kind)
    images = images_for(made)
    wanted = made(images).patches
    made.save_peft(tmp_path / "peft")
    plain, fresh = (tiny_backbone(monkeypatch, FAMILIES[family]) for _ in range(2))
    plain.trunk.load_state_dict(plain_sum(tmp_path / "peft", plain))
    assert torch.allclose(plain(images).patches, wanted, atol=1e-5)
    metadata = fresh.load_adapter(tmp_path / "peft")
    assert torch.equal(fresh(images).patches, wanted)
    assert (fresh.adapter.rank, fresh.adapter.alpha) == (kind.rank, kind.alpha)
    assert fresh.adapter.first_block == kind.first_block
    assert set(fresh.adapter.targets) == set(kind.targets) and metadata["weight_hash"] == made.weight_hash
    fresh.save_adapter(tmp_path / "a.safetensors", 0, "teacher")  # and on as a file of this project


HUGGING_FACE = {
    "ViT": ("layers.{}.attention.{}_proj", "layers.{}.mlp.fc1"),
    "DINOv2": ("encoder.layer.{}.attention.attention.{}", "encoder.layer.{}.mlp.fc1"),
    "DINOv3": ("model.layer.{}.attention.{}_proj", "model.layer.{}.mlp.up_proj"),
}


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_hugging_faces_names_are_read_with_ranks_and_scales_of_their_own(
    family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attention, mlp = HUGGING_FACE[family]
    words = {"q": "query", "v": "value"} if "attention.attention" in attention else {"q": "q", "v": "v"}
    generator = torch.Generator().manual_seed(0)
    made = tiny_backbone(monkeypatch, FAMILIES[family])
    images, state = images_for(made), made.trunk.state_dict()
    hidden, tensors = state["blocks.0.mlp.fc1.weight"].shape[0], {}
    for depth in range(2):
        for target, name, rank, alpha, out in (
            ("q", attention.format(depth, words["q"]), 2, 4.0, 32),
            ("v", attention.format(depth, words["v"]), 2, 4.0, 32),
            ("fc1", mlp.format(depth), 3, 9.0, hidden),
        ):
            down, up = torch.randn(rank, 32, generator=generator), 0.1 * torch.randn(out, rank, generator=generator)
            tensors[f"base_model.model.{name}.lora_A.weight"], tensors[f"base_model.model.{name}.lora_B.weight"] = (
                down,
                up,
            )
            update = alpha / rank * up @ down
            fused = f"blocks.{depth}.attn.qkv.weight"
            if target == "fc1":
                state[f"blocks.{depth}.mlp.fc1.weight"] += update
            elif fused in state:
                state[fused]["qkv".index(target) * 32 :][:32] += update
            else:
                state[f"blocks.{depth}.attn.{target}_proj.weight"] += update
    save_file(tensors, tmp_path / ADAPTER)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {mlp.rpartition(".")[2]: 9}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    made.trunk.load_state_dict(state)
    fresh = tiny_backbone(monkeypatch, FAMILIES[family])
    fresh.load_adapter(tmp_path)
    assert torch.allclose(fresh(images).patches, made(images).patches, atol=1e-4)
    assert [("does not record the weights" in message) for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "expected peft_type LORA, found 'IA3'"),
        ({"use_dora": True}, "use_dora; expected a plain LoRA"),
        ({"bias": "all"}, "bias; expected a plain LoRA"),
        ({"lora_alpha": "much"}, "lora_alpha as a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha as a finite number"),
        ({"alpha_pattern": {"(a+)+$": 2}}, "plain layer names"),
    ],
)
def test_settings_that_mean_something_else_are_refused(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapted(monkeypatch, "ViT", LoRA(rank=2, targets=("proj",))).save_peft(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        tiny_backbone(monkeypatch).load_adapter(tmp_path)


def renamed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.blocks.0.attn.lora_magnitude_vector"] = torch.zeros(2)


def deeper(tensors: dict[str, torch.Tensor]) -> None:
    for half in "AB":
        name = f"base_model.model.blocks.{{}}.attn.qkv.lora_{half}.weight"
        tensors[name.format(7)] = tensors[name.format(1)].clone()


def wider(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.blocks.0.attn.qkv.lora_A.weight"] = torch.ones(4, 33)


def zero(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        tensors[name] = torch.zeros_like(tensors[name])


def halved(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["base_model.model.blocks.0.attn.qkv.lora_B.weight"]


def spoilt(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.blocks.0.attn.qkv.lora_B.weight"][0, 0] = torch.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "lora_magnitude_vector"),
        (deeper, r"adapts blocks\.7"),
        (wider, "maps 33 to 32 channels"),
        (zero, "every lora_B is zero"),
        (halved, r"expected lora_A \[r, in\] and lora_B"),
        (spoilt, "finite floats"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_and_leave_the_backbone_as_it_is(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapted(monkeypatch, "ViT", LoRA(rank=2)).save_peft(tmp_path)
    tensors = load_file(tmp_path / ADAPTER)
    change(tensors)
    save_file(tensors, tmp_path / ADAPTER)
    backbone = tiny_backbone(monkeypatch)
    with pytest.raises(UserError, match=message):
        backbone.load_adapter(tmp_path)
    assert backbone.adapter is None and backbone.trainable() == []


def test_damage_ends_in_one_message_or_in_the_same_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adapted(monkeypatch, "ViT", LoRA(rank=2)).save_peft(tmp_path)
    backbone, chance = tiny_backbone(monkeypatch), random.Random(0)
    for name in ("adapter_config.json", ADAPTER):
        content = (tmp_path / name).read_bytes()
        for spot in range(0, min(len(content), 1200), 5):
            mutant = bytearray(content)
            mutant[spot] ^= 1 << chance.randrange(8)
            (tmp_path / name).write_bytes(mutant)
            try:
                backbone.load_adapter(tmp_path)
            except UserError:
                continue
            assert isinstance(backbone.adapter, LoRA)
            backbone.uninstall()
        (tmp_path / name).write_bytes(content)


def test_other_weights_other_kinds_and_missing_tensors_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapted(monkeypatch, "ViT", LoRA(rank=2)).save_peft(tmp_path)
    with pytest.raises(UserError, match="load the same weights"):
        tiny_backbone(monkeypatch, seed=1).load_adapter(tmp_path)
    other = tiny_backbone(monkeypatch)
    other.install(UniAdapter(rank=2))
    with pytest.raises(UserError, match="holds a LoRA"):
        other.save_peft(tmp_path)
    (tmp_path / ADAPTER).unlink()
    with pytest.raises(MissingFile, match="adapter_model"):
        tiny_backbone(monkeypatch).load_adapter(tmp_path)
