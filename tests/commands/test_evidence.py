"""`python -m src evidence`: one JSON of all rows, resumed row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src.__main__ import main
from src.commands import evidence
from src.commands.adapt.settings import Settings
from src.core.json_files import write_json


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(10):
        mask = (np.arange(64) >= rng.integers(12, 52)).astype(np.uint8)[None].repeat(64, 0)
        noise = rng.integers(60, size=(64, 64, 3))
        Image.fromarray((noise + 150 * mask[..., None]).astype(np.uint8)).save(tmp_path / f"data/images/{index}.png")
        Image.fromarray(mask).save(tmp_path / f"data/masks/{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "test_vit.pth")
    monkeypatch.setattr(evidence, "choose", lambda *a: Settings(a[-1], 2, 4, 32, 16, 1e-3, "32-true"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path


def command(folder: Path, *more: str) -> int:
    words = ["evidence", str(folder / "data"), "--out", str(folder / "out"), "--backbone", "test_vit"]
    return main([*words, "--weights", str(folder / "test_vit.pth"), "--seeds", "0", "1", *more])


def test_every_row_is_in_one_file_and_is_measured_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(folder, "--methods", "glare") == 0
    assert set(json.loads((folder / "out" / "evidence.json").read_text())["methods"]) == {"glare"}
    assert command(folder) == 0
    said = capsys.readouterr().out
    text = (folder / "out" / "evidence.json").read_text()
    found = json.loads(text)
    assert (found["training_images"], found["evaluation_images"], found["seeds"]) == (8, 2, [0, 1])
    assert found["frozen"] != found["averaged"] and set(found["methods"]) == {"glare", "glare-calibrated"}
    for method in found["methods"].values():
        assert len(method["scores"]) == 2 and method["scores"][0] != method["scores"][1]
        mean = np.mean([row["miou"] for row in method["scores"]]) - found["frozen"]["miou"]
        assert method["changes"]["miou"]["difference"] == pytest.approx(mean)
        assert method["sentence"] in said and method["stopped"] == [None, None]
    assert str(folder) not in text
    write_json(folder / "out" / "runs" / "glare-1" / "guards.json", {"stopped": "stopped at step 1 of 2, spike: large"})
    assert command(folder) == 0
    assert "pure GLARE, seed 1: stopped at step 1 of 2, spike: large; its adapter" in capsys.readouterr().out
    text = (folder / "out" / "evidence.json").read_text()
    monkeypatch.setattr(evidence, "run", lambda _: pytest.fail("trained again"))
    (folder / "out" / "evidence.json").unlink()
    assert command(folder) == 0
    assert (folder / "out" / "evidence.json").read_text() == text


def test_a_finished_row_of_another_version_of_the_preset_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(folder, "--methods", "glare") == 0
    read = evidence.read

    def changed(path: Path) -> Any:
        config = read(path)
        if path.name == evidence.base("glare").name:
            config["model"]["init_args"]["objectives"]["local"]["init_args"]["weight"] = 0.5
        return config

    monkeypatch.setattr(evidence, "read", changed)
    assert command(folder, "--methods", "glare") == 1
    assert "glare-0 holds a run with other settings (model" in capsys.readouterr().err


def test_other_weights_and_unknown_data_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evidence", "camvit", "--weights", "none"]) == 1
    assert "camvit: expected a folder of images with masks, or one of ade20k, camvid" in capsys.readouterr().err
    monkeypatch.delenv("DATA_ROOT", raising=False)
    assert main(["evidence", "camvid", "--weights", "none"]) == 2
    assert "DATA_ROOT is not set" in capsys.readouterr().err
    evidence.prepared(folder / "out", {"hash": "other"}, "evidence.yaml")
    assert command(folder) == 1
    assert "hash: other → " in capsys.readouterr().err
