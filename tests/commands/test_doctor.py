"""The doctor tells what a file is, exits 0 only if it loads, and its yaml lines are those that work."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from src.backbones.adapters import LoRA
from src.backbones.backbone import Backbone
from src.backbones.checkpoints import build_trunk, load_weights, weight_hash
from src.commands.doctor import main
from src.pretraining import ContinualPretraining
from src.pretraining.projection_head import ProjectionHead
from tests.backbones.checkpoints import tiny_timm  # noqa: F401
from tests.backbones.checkpoints.every_layout import EVERY
from tests.backbones.checkpoints.published_layouts import dino_head, official


def examine(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_report_of_a_full_udi_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(EVERY["UDI full"]().content, path)
    code, report = examine(capsys, str(path), "--model", "tiny_vit")
    assert code == 0 and report["loads"] and report["family"] == "UDI"
    assert report["geometry"]["class_tokens"] == 2 or report["geometry"]["registers"] == 1
    assert report["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert report["head"]["last_layer.weight_v"] == [24, 12]
    assert report["ignored"]["teacher.backbone.norm1.weight"] == "UDI's dense attention, not part of the ViT"
    assert report["weight_hash"] == weight_hash(load_weights(str(path), "tiny_vit").state)
    assert report["features"]["finite"] and 1 < report["features"]["effective_rank"] <= report["features"]["of"]
    assert report["holds"]["ViT at teacher.backbone.backbone."]["tensors"] == len(official(10))


@pytest.mark.parametrize("damaged", [False, True])
def test_an_adapter_file_is_named_with_its_settings(
    damaged: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = Backbone("test_vit", "none")
    backbone.install(LoRA(rank=3, first_block=5))
    backbone.save_adapter(tmp_path / "adapter.safetensors", 1, "teacher")
    path, settings = tmp_path / "adapter.safetensors", "LoRA(alpha=16.0, first_block=5, rank=3, targets="
    if damaged:
        path.write_bytes(path.read_bytes().replace(b'"sizes":"{', b'"sizes":"['))
    code, report = examine(capsys, str(path))
    assert code == 1 and "give it as adapter:" in report["error"]
    assert (settings in report["error"]) != damaged and "(a LoRA" in report["error"]


def test_yaml_lines_build_the_same_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a file: with #signs.safetensors"
    save_file(official(1), path)
    _, report = examine(capsys, str(path), "--model", "tiny_vit")
    arguments = yaml.safe_load(report["yaml"])["model"]["init_args"]["backbone"]["init_args"]
    assert weight_hash(build_trunk(**arguments).state_dict()) == report["weight_hash"]


def test_yaml_lines_start_pretraining_from_the_files_own_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(EVERY["DINO"]().content, tmp_path / "file.pth")
    _, report = examine(capsys, str(tmp_path / "file.pth"), "--model", "tiny_vit")
    arguments = yaml.safe_load(report["yaml"])["model"]["init_args"]
    head = functools.partial(ProjectionHead, **arguments["head"]["init_args"])
    backbone = Backbone(**arguments["backbone"]["init_args"])
    module = ContinualPretraining(backbone, head=head, init_head=arguments["init_head"])
    assert torch.equal(module.student.head.mlp[0].weight, dino_head(4)["mlp.0.weight"])


def test_without_a_model_the_geometry_names_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import timm

    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    torch.save({"teacher": {f"backbone.{name}": value for name, value in state.items()}}, tmp_path / "file.pth")
    code, report = examine(capsys, str(tmp_path / "file.pth"))
    assert code == 0 and report["model"] == "vit_tiny_patch16_224" and report["geometry"]["heads"] == 3


def test_missing_and_unexpected_names_are_all_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = official(1)
    for index in range(3):
        state[f"blocks.{index}.norm1.gain"] = state.pop(f"blocks.{index}.norm1.weight")
    save_file(state, tmp_path / "file.safetensors")
    code, report = examine(capsys, str(tmp_path / "file.safetensors"), "--model", "tiny_vit")
    assert code == 1 and not report["loads"]
    assert report["missing"] == [f"blocks.{index}.norm1.weight" for index in range(3)]
    assert report["unexpected"] == [f"blocks.{index}.norm1.gain" for index in range(3)]


def test_file_for_another_model_shows_its_own_geometry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(official(1), tmp_path / "file.safetensors")
    code, report = examine(capsys, str(tmp_path / "file.safetensors"), "--model", "vit_tiny_patch16_224")
    assert (
        code == 1 and report["geometry"]["width"] == 32 and "width: the file has 32, the model 192" in report["error"]
    )


def test_geometry_that_timm_has_no_name_for_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(official(1), tmp_path / "file.safetensors")
    code, report = examine(capsys, str(tmp_path / "file.safetensors"))
    assert code == 1 and "--model" in report["error"]


def test_collapsed_features_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = official(1)
    state["norm.weight"] = torch.zeros(32)
    save_file(state, tmp_path / "file.safetensors")
    code = main([str(tmp_path / "file.safetensors"), "--model", "tiny_vit"])
    assert code == 0 and "COLLAPSED" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"hello", bytes(999)])
def test_no_checkpoint_at_all_is_one_message_and_exit_1(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    assert main([str(tmp_path / "file.pth")]) == 1
    captured = capsys.readouterr()
    assert "DOES NOT LOAD" in captured.out and not captured.err


def test_exit_code_reaches_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from src.__main__ import main as command_line

    save_file(official(1), tmp_path / "file.safetensors")
    assert command_line(["doctor", str(tmp_path / "file.safetensors"), "--model", "tiny_vit"]) == 0
    assert command_line(["doctor", str(tmp_path / "nothing.safetensors")]) == 1


def test_text_report_ends_with_the_lines_to_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(EVERY["DINO"]().content, tmp_path / "file.pth")
    assert main([str(tmp_path / "file.pth"), "--model", "tiny_vit", "--network", "student"]) == 0
    out = capsys.readouterr().out
    for expected in ("family      DINO", "24 prototypes", "another network", "LOADS", "        network: student\n"):
        assert expected in out
