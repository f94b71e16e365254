"""Inspect draws any image with any adapter file, and looks through the teacher's attention where a run has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from src.backbones.adapters import UniAdapter
from src.commands.inspect import drawing, main
from src.commands.inspect.drawing import teacher_context
from src.core.errors import UserError
from src.pretraining.regions import RegionalAttention
from tests.tiny import tiny_backbone


def test_every_picture_is_written_and_described(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.explanation.explaining.SIDE", 96)
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    backbone.save_adapter(tmp_path / "adapter.safetensors", 3, "teacher")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    main([str(tmp_path / "a.png"), "--adapter", str(tmp_path / "adapter.safetensors"), "--out", str(out)])
    names = ["attention-1", "features-1", "matches-1", "neighbours", "regions-1"]
    assert sorted(path.stem for path in out.iterdir()) == names
    text = capsys.readouterr().out
    assert "regions use the identity, as at the start of training" in text
    assert all(str(out / f"{name}.png") in text for name in names)


def test_folders_of_images_and_of_runs_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(drawing, "Explainer", lambda *_: SimpleNamespace(explain=lambda pixels: []))
    monkeypatch.setattr(drawing, "read_image", lambda path: seen.append(path.name))
    backbone = tiny_backbone(monkeypatch)
    backbone.install(UniAdapter(rank=4))
    (tmp_path / "run").mkdir()
    backbone.save_adapter(tmp_path / "run" / "adapter.safetensors", 3, "teacher")
    for number in range(15):
        (tmp_path / "images" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "deep" / f"{number:02}.png").touch()
    options = ["--adapter", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    main([str(tmp_path / "images"), str(tmp_path / "x.png"), *options])
    assert seen == ["00.png", "02.png", "04.png", "06.png", "08.png", "10.png", "12.png", "14.png", "x.png"]
    assert "8 of its 15 images are drawn" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected images"):
        main([str(tmp_path / "empty"), *options])
    with pytest.raises(UserError, match="expected a folder, found the file"):
        main([str(tmp_path / "images"), *options[:2], "--out", str(tmp_path / "run" / "adapter.safetensors")])


def test_the_teachers_attention_comes_out_of_the_checkpoint(tmp_path: Path) -> None:
    adapter, taught = tmp_path / "adapter.safetensors", RegionalAttention(8, noise=1.0)
    assert teacher_context(adapter, 8) is None
    (tmp_path / "checkpoints").mkdir()
    state = {f"teacher.network.context.{name}": value for name, value in taught.state_dict().items()}
    torch.save({"state_dict": {**state, "student.context.query.weight": torch.zeros(8, 8)}}, tmp_path / "c.ckpt")
    (tmp_path / "c.ckpt").rename(tmp_path / "checkpoints" / "last.ckpt")
    found = teacher_context(adapter, 8)
    assert found is not None
    for name, value in taught.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    with pytest.raises(ValueError, match="belong to different runs"):
        teacher_context(adapter, 16)


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="adapter file"):
        main([str(tmp_path / "a.png"), "--adapter", str(tmp_path / "none.safetensors")])
