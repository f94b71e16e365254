"""`python -m src segment`: from a few masks to a mask of every image, with a tiny ViT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src.__main__ import main
from src.commands import parsers, segment
from src.commands.adapt import command as adapt
from src.commands.adapt.settings import Settings

NAMES = [f"{index}" for index in range(8)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight images of a bright and a dark half, six of them with masks, and settings that take a second."""
    rng = np.random.default_rng(0)
    for name in ("images", "marked"):
        (tmp_path / name).mkdir()
    for name in NAMES:
        left = int(rng.integers(12, 52))
        mask = (np.arange(64) >= left).astype(np.uint8)[None].repeat(48, 0)
        noise = rng.integers(60, size=(48, 64, 3))
        Image.fromarray((noise + 150 * mask[..., None]).astype(np.uint8)).save(tmp_path / "images" / f"{name}.png")
        if name not in ("0", "5"):
            Image.fromarray(mask).save(tmp_path / "marked" / f"{name}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "test_vit.pth")
    monkeypatch.setattr(adapt, "choose", lambda *_: Settings("glare-calibrated", 2, 4, 32, 16, 1e-3, "32-true"))
    monkeypatch.setattr(segment, "EPOCHS", (3, 3))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path


def command(folder: Path, *more: str) -> int:
    backbone = ["--backbone", "test_vit", "--weights", str(folder / "test_vit.pth")]
    words = ["segment", str(folder / "images"), "--masks", str(folder / "marked"), "--out", str(folder / "run")]
    return main([*words, *backbone, *more])


@pytest.mark.parametrize("word", ["as judged", "helped"])
def test_every_image_gets_a_mask_and_what_is_whole_is_not_made_again(
    folder: Path, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = adapt.judged
    if word == "helped":
        from dataclasses import replace

        monkeypatch.setattr(adapt, "judged", lambda *a: replace(real(*a), word="helped", recommended="adapted"))
    assert command(folder) == 0
    run, text = folder / "run", capsys.readouterr().out
    masks = {path.stem: np.asarray(Image.open(path)) for path in (run / "predictions" / "masks").iterdir()}
    assert sorted(masks) == NAMES and all(mask.shape == (48, 64) for mask in masks.values())
    assert {int(value) for mask in masks.values() for value in np.unique(mask)} <= {0, 1}
    score = json.loads((run / "head" / "evaluation.json").read_text())["miou"]
    assert f"head trained on 5 masks: mIoU {100 * score:.1f}" in text
    adapted = json.loads((run / "adapt" / "verdict.json").read_text())["recommended"] == "adapted"
    used = "adapt/adapter.safetensors" in (run / "head" / "config.yaml").read_text()
    assert used == adapted and (word != "helped" or adapted)
    page = (run / "report.html").read_text()
    assert page.index('aria-label="Verdict"') < page.index("Predicted masks") and page.count("data:image/jpeg") == 8

    monkeypatch.setattr(adapt, "run", lambda _: pytest.fail("adapted again"))
    (run / "predictions" / "masks" / "3.png").unlink()
    calls: list[str] = []
    real_run = segment.run
    monkeypatch.setattr(segment, "run", lambda words: calls.append(words[0]) or real_run(words))
    assert command(folder) == 0
    assert calls == ["predict"] and (run / "predictions" / "masks" / "3.png").is_file()


def test_too_few_masks_or_other_options_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "adapted", lambda *_: pytest.fail("trained"))
    segment.prepared(folder / "run", {"images": "others"}, "segment.yaml")
    assert command(folder) == 1
    assert "give another --out" in capsys.readouterr().err
    (folder / "run" / "segment.yaml").unlink()
    monkeypatch.setattr(segment, "adapted", lambda *_: sys.exit(7))
    assert command(folder) == 7
    Image.new("L", (64, 48), 1).save(folder / "marked" / "1.png")
    assert command(folder) == 1
    assert "other settings (contents: " in capsys.readouterr().err
    for name in ("1", "2"):
        (folder / "marked" / f"{name}.png").unlink()
    assert command(folder) == 1
    assert "expected 5 images or more to hold out a fifth for validation, found 4" in capsys.readouterr().err
    assert main(["segment", str(folder / "images"), "--out", str(folder / "run")]) == 1
    assert "expected --masks" in capsys.readouterr().err


@pytest.mark.parametrize(("masks", "epochs"), [(10, 300), (100, 143), (367, 43), (1000, 20)])
def test_a_head_trains_about_a_thousand_steps(masks: int, epochs: int) -> None:
    words = ["images", "--out", "run", "--masks", "marked"]
    options = parsers.segment().parse_args(words)
    location = segment.MaskLocation(Path("images"), Path("marked"))
    assert segment.settings(options, location, masks, None)["trainer.max_epochs"] == epochs
