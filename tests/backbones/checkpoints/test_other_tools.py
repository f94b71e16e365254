"""Checkpoints of other tools: teacher and student by their names, OpenMMLab's ViTs, formats that need converting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as distributed_checkpoint

from src.backbones.checkpoints import build_trunk, load_weights
from src.backbones.checkpoints.choosing import label
from src.core.checkpoint_files import save_checkpoint
from tests.backbones.checkpoints import tiny_timm  # noqa: F401
from tests.backbones.checkpoints.every_layout import EVERY
from tests.backbones.checkpoints.published_layouts import official, under

PAIRS = {  # student's and teacher's prefixes
    "LightlyTrain": ("student_embedding_model_wrapper._model.", "teacher_embedding_model_wrapper._model."),
    "lightly": ("student_backbone.vit.", "teacher_backbone.vit."),
    "solo-learn": ("backbone.", "momentum_backbone."),
    "timm's EMA": ("state_dict.", "state_dict_ema."),
    "Lightning with EMA": ("model.backbone.", "ema_model.module.backbone."),
    "distillation": ("student_model.", "teacher_model."),
    "I-JEPA": ("encoder.module.", "target_encoder.module."),
    "MoCo": ("encoder_q.", "encoder_k."),
    "mmselfsup": ("backbone.", "momentum_encoder.module.0."),
    "model_ema": ("model.", "model_ema.ema."),
}


def equal(path: Path, expected: dict[str, Tensor], model: str = "tiny_vit", **options: Any) -> bool:
    state = load_weights(str(path), model, **options).state
    return all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize("tool", PAIRS)
@pytest.mark.parametrize("top", ["", "state_dict"])
def test_teacher_is_taken_and_student_when_asked_for(tool: str, top: str, tmp_path: Path) -> None:
    student, teacher = PAIRS[tool]
    pair = under(student, official(1)) | under(teacher, official(2))
    torch.save({top: pair, "epoch": 3} if top else pair, tmp_path / "a.ckpt")
    assert equal(tmp_path / "a.ckpt", official(2))
    assert equal(tmp_path / "a.ckpt", official(1), network="student")


@pytest.mark.parametrize("name", ["schema.", "remark.", "backbone.targets.", "thematic.", "module.blocks."])
def test_words_count_whole(name: str) -> None:
    assert label(name) is None


def test_whole_modules_beside_the_state_dict_are_passed_over_without_their_code(tmp_path: Path) -> None:
    student, teacher = PAIRS["LightlyTrain"]
    module = timm.create_model("test_vit", num_classes=0)
    models = {"model": module, "wrapped_model": nn.ModuleDict({"_model": module})}
    pair = under(student, official(1)) | under(teacher, official(2))
    torch.save({"state_dict": pair, "lightly_train": {"models": models}}, tmp_path / "last.ckpt")
    assert equal(tmp_path / "last.ckpt", official(2))
    torch.save({"model": module}, tmp_path / "alone.ckpt")
    with pytest.raises(ValueError, match=r"its pickle calls (timm|torch\.nn)"):
        load_weights(str(tmp_path / "alone.ckpt"), "tiny_vit")


@pytest.mark.parametrize("prefix", ["one", "one.", "state_dict.one", "state_dict.one.vit", "one.vit"])
def test_a_stated_prefix_chooses(prefix: str, tmp_path: Path) -> None:
    torch.save({"state_dict": under("one.vit.", official(1)) | under("two.vit.", official(2))}, tmp_path / "a.ckpt")
    assert equal(tmp_path / "a.ckpt", official(1), prefix=prefix)


def test_a_stated_prefix_wins_over_teacher_and_student(tmp_path: Path) -> None:
    torch.save(official(1) | under("teacher.", official(2)), tmp_path / "a.ckpt")
    assert equal(tmp_path / "a.ckpt", official(2))
    assert equal(tmp_path / "a.ckpt", official(1), prefix="")
    with pytest.raises(
        ValueError, match=r"no ViT under prefix 'x'; its ViTs have the prefixes: \(top level\), teacher\."
    ):
        load_weights(str(tmp_path / "a.ckpt"), "tiny_vit", prefix="x")


def test_prefix_and_grid_are_for_files_alone() -> None:
    for option in ({"prefix": "x"}, {"position_grid": (2, 2)}):
        with pytest.raises(ValueError, match="are for checkpoint files"):
            load_weights("none", "tiny_vit", **option)


def open_mmlab(name: str) -> str:
    for pattern, replacement in (
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"^norm\.", "ln1."),
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
        (r"\.ls1\.gamma$", ".attn.gamma1.weight"),
        (r"\.ls2\.gamma$", ".ffn.gamma2.weight"),
    ):
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("published", ["DINO", "DINOv2"])
@pytest.mark.parametrize("attention", ["mmpretrain", "mmsegmentation"])
def test_open_mmlabs_names_give_the_same_weights(published: str, attention: str, tmp_path: Path) -> None:
    layout = EVERY[published]()
    torch.save(layout.content, tmp_path / "own.pth")
    expected = load_weights(str(tmp_path / "own.pth"), layout.model)
    state = {f"backbone.{open_mmlab(name)}": value for name, value in expected.state.items()}
    if attention == "mmsegmentation":
        for old, new in ((".attn.qkv.", ".attn.attn.in_proj_"), (".attn.proj.", ".attn.attn.out_proj.")):
            state = {name.replace(old, new): value for name, value in state.items()}
    torch.save({"meta": {"epoch": 3}, "state_dict": state}, tmp_path / "mm.pth")
    loaded = load_weights(str(tmp_path / "mm.pth"), layout.model)
    assert loaded.family.endswith("(OpenMMLab)") and loaded.normalisation == expected.normalisation
    assert all(torch.equal(loaded.state[name], expected.state[name]) for name in expected.state)
    state["head.layers.head.weight"] = torch.zeros(3, 32)
    torch.save({"state_dict": state}, tmp_path / "supervised.pth")
    if published == "DINO":
        assert load_weights(str(tmp_path / "supervised.pth"), layout.model).normalisation[0] == (0.5, 0.5, 0.5)


def convert(message: str, folder: Path) -> None:
    """Follow the message to the letter."""
    (command,) = re.findall(r"python (-c \".*\" \S+|-m \S+ dcp_to_torch \S+ converted\.pth)", message)
    subprocess.run(["bash", "-c", f"{sys.executable} {command}"], cwd=folder, check=True, capture_output=True)


def torchscript(path: Path) -> None:
    class Holder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    holder = Holder()
    for name, value in official(1).items():
        place: nn.Module = holder
        *parts, last = name.split(".")
        for part in parts:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_buffer(last, value)
    torch.jit.trace(holder, torch.rand(1)).save(str(path))


def numpy_archive(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **{name.replace(".", "/"): value.numpy() for name, value in official(1).items()})  # type: ignore[arg-type]


def dcp(path: Path) -> None:
    distributed_checkpoint.save({"model": under("teacher.", official(1))}, checkpoint_id=path)


CONVERTED = {
    "a.pt": (torchscript, "TorchScript"),
    "a.npz": (numpy_archive, "a NumPy archive"),
    "ckpt": (dcp, "torch.distributed"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONVERTED)
def test_the_line_that_converts_gives_a_file_that_loads(name: str, tmp_path: Path) -> None:
    write, expected = CONVERTED[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=expected) as caught:
        load_weights(str(tmp_path / name), "tiny_vit")
    assert "\n" not in str(caught.value)
    convert(str(caught.value), tmp_path)
    assert equal(tmp_path / "converted.pth", official(1))


def save(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def fsdp(path: Path) -> None:
    save({"model": {"teacher.backbone._fsdp_wrapped_module.blocks.0._flat_param": torch.ones(9)}}, path)


def peft(path: Path) -> None:
    state = official(1)
    weight = state.pop("blocks.0.attn.qkv.weight")
    more = {"base_layer.weight": weight, "lora_A.default.weight": weight[:4], "lora_B.default.weight": weight[:, :4]}
    save(under("base_model.model.", state | under("blocks.0.attn.qkv.", more)), path)


def deep_speed(path: Path) -> None:
    save({"module": official(1)}, path / "checkpoint" / "mp_rank_00_model_states.pt")


def deep_speed_shards(path: Path) -> None:
    deep_speed(path)
    save({}, path / "checkpoint" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (path / "zero_to_fp32.py").write_text("")


def peft_folder(path: Path) -> None:
    save({}, path / "adapter_model.bin")
    (path / "adapter_config.json").write_text("{}")


def resume(path: Path) -> None:
    save_checkpoint({"state_dict": {"decoder.weight": torch.ones(2)}}, path)


def earlier_resume(path: Path) -> None:
    save({"state_dict": {"teacher.network.backbone.trunk.blocks.0.bottleneck.down.weight": torch.ones(2)}}, path)


NAMED = {
    "FSDP": (fsdp, r"flat FSDP shards .*teacher_checkpoint\.pth"),
    "PEFT": (peft, r"unmerged LoRA of PEFT .*merge_and_unload\(\)"),
    "DeepSpeed": (deep_speed, r"DeepSpeed folder.*zero_to_fp32.*, or give .*mp_rank_00_model_states\.pt"),
    "DeepSpeed shards": (deep_speed_shards, r"DeepSpeed folder.*/zero_to_fp32\.py \S+ converted$"),
    "PEFT folder": (peft_folder, "give it as adapter:"),
    "resume": (resume, "is a resume checkpoint of this project.*--ckpt_path"),
    "earlier resume": (earlier_resume, "is a resume checkpoint of this project"),
    "another's": (lambda path: save({"state_dict": {"fc.weight": torch.ones(2)}}, path), "no vision transformer"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_each_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    write, expected = NAMED[kind]
    write(tmp_path / "x")
    with pytest.raises(ValueError, match=expected) as caught:
        load_weights(str(tmp_path / "x"), "tiny_vit")
    assert "\n" not in str(caught.value)
    assert ("of this project" in str(caught.value)) == ("resume" in kind)


def test_nothing_in_a_tensors_name_reaches_the_terminal(tmp_path: Path) -> None:
    torch.save(official(1) | {"\x1b[31mred\nLOADS": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"\\x1b\[31mred\\nLOADS") as caught:
        build_trunk("tiny_vit", str(tmp_path / "a.pth"))
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
