"""Mistakes are found before images are decoded and models are built."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from src.__main__ import main
from src.backbones import requirements
from src.cli import CLI
from src.config.composition import override
from src.config.prerequisites import check_sizes, check_writable, lacking
from src.core.errors import CommandLineError, UserError
from tests.command_line import BACKBONE, pretraining, segmentation, written

BACKBONE_KEY = "model.init_args.backbone.init_args"
CONFIGS = {"pretrain": pretraining, "segment": segmentation}


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise AssertionError("work started")

    monkeypatch.setattr(CLI, "instantiate_classes", start)  # of the data first, then of the model


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("task", CONFIGS)
@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data.init_args.size": 40}, 2, "data.init_args.size: expected multiples of 16, the patch size of test_vit"),
        ({f"{BACKBONE_KEY}.weights": "gone/vit.pth"}, 1, "no weights at gone/vit.pth; expected hub"),
        ({f"{BACKBONE_KEY}.adapter": "gone.safetensors"}, 1, "adapter file gone.safetensors not found"),
        ({f"{BACKBONE_KEY}.name": "vit_smal_patch16_224"}, 2, "timm has no model 'vit_smal_patch16_224'"),
        ({f"{BACKBONE_KEY}.name": "resnet18"}, 2, "resnet18 is a ResNet"),
        ({"data.init_args.extra": ["${NOT_SET}/x"]}, 2, "NOT_SET is not set"),
        ({"trainer.default_root_dir": "{file}/run"}, 1, "expected a folder, found the file {file}"),
        ({"trainer.default_root_dir": "/proc/run"}, 1, "nothing can be written to /proc"),
    ],
)
def test_a_fit_reports_it_at_once(
    task: str, changes: dict[str, Any], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    filled = {key: item.format(file=file) if key.startswith("trainer") else item for key, item in changes.items()}
    config = override(copy.deepcopy(CONFIGS[task](tmp_path / "run")), filled)
    assert main(["fit", "--config", written(tmp_path / "x.yaml", config)]) == code
    error = capsys.readouterr().err
    assert message.format(file=file) in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "found", "use"),
    [
        ({"size": 252, "local_views": 2, "local_size": 96}, None, None),  # 96 is no multiple of 14, see below
        ({"size": 250}, "250", "252"),
        ({"size": [252, 255], "task": "segment"}, "[252, 255]", "[252, 252]"),
        ({"size": 3}, "3", "14"),
        ({"size": 252, "local_views": 0, "local_size": 96}, "", ""),
        ({"size": 252, "local_views": 2, "local_size": 96, "task": "segment"}, "", ""),
        ({}, "", ""),
    ],
)
def test_sizes_are_multiples_of_the_patch(data: dict[str, Any], found: str | None, use: str | None) -> None:
    backbone = {"class_path": "src.backbones.Backbone"}  # its default has patches of 14
    config = {"model": {"class_path": "x.Y", "init_args": {"backbone": backbone}}, "data": {"init_args": data}}
    if found == "":
        check_sizes(config)
        return
    expected = f"found {found}; use {use}" if found else "local_size: expected multiples of 14.*found 96; use 98"
    with pytest.raises(CommandLineError, match=expected.replace("[", r"\[").replace("]", r"\]")):
        check_sizes(config)


def test_what_a_machine_lacks_is_listed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("HERE", str(tmp_path))
    backbone = override(BACKBONE, {"init_args.weights": "gone.pth", "init_args.adapter": "gone.safetensors"})
    config = {
        "trainer": {"default_root_dir": "$NOT_SET/run"},
        "model": {"class_path": "x.Y", "init_args": {"backbones": [backbone, backbone]}},
        "data": {"init_args": {"root": "${HERE}/gone"}},
    }
    variable, folder, weights, adapter = lacking(config)
    assert variable == "environment variable NOT_SET (trainer.default_root_dir)"
    assert folder == f"data folder {tmp_path}/gone"
    assert weights.startswith("no weights at gone.pth") and adapter == "adapter file gone.safetensors not found"
    (tmp_path / "gone").mkdir()
    backbone["init_args"]["adapter"] = "${NOT_SET}/x"  # no file is missing of which the path is not known
    assert lacking({"model": config["model"]})[0].startswith(
        "environment variable NOT_SET (model.init_args.backbones.0"
    )
    assert len(lacking({"model": config["model"]})) == 2
    (tmp_path / "here.pth").touch()
    backbone = override(BACKBONE, {"init_args.weights": "$HERE/here.pth"})
    assert lacking({"model": {"init_args": {"backbone": backbone}}}) == []
    assert lacking({"data": config["data"], "model": {"init_args": {"backbone": BACKBONE}}}) == []


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    os.symlink(tmp_path / "gone", tmp_path / "dangling")
    with pytest.raises(UserError, match="found the file"):
        check_writable(tmp_path / "dangling" / "run")


@pytest.mark.parametrize(("adapter", "found"), [("hf://org/name", 0), ("gone.safetensors", 1), (None, 0)])
def test_an_adapter_on_the_hub_is_no_missing_file(adapter: str | None, found: int) -> None:
    assert len(requirements.missing_files({"weights": "none", "adapter": adapter})) == found
