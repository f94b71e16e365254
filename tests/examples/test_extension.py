"""examples/extension: parts of a user's own package train, are saved, loaded, exported and segment."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from src import load_backbone
from src.__main__ import main
from src.core.errors import UserError
from tests.command_line import ROOT, losses

EXTENSION = ROOT / "examples" / "extension"


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that put a tiny ViT in; the current folder is that of the extension, which nothing has imported yet."""
    monkeypatch.chdir(EXTENSION)
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget(monkeypatch)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.pth")
    arguments = "--model.init_args.backbone.init_args"
    small = ["--data.init_args.size=32", "--trainer.max_steps=3", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    return [f"{arguments}.name=test_vit", f"{arguments}.weights={tmp_path / 'vit.pth'}", *small]


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, nothing has imported the package."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)


def test_every_part_works_end_to_end(backbone: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, weights = tmp_path / "run", str(tmp_path / "vit.pth")
    assert main(["fit", "--config", "pretrain.yaml", *backbone, f"--trainer.default_root_dir={run}"]) == 0
    written = [float(line) for line in (run / "losses.txt").read_text().splitlines()]
    assert written == pytest.approx(losses(run), abs=1e-5) and len(written) == 3

    adapter = str(run / "adapter.safetensors")
    adapted = load_backbone("test_vit", weights=weights, adapter=adapter, trust=("mylab",))
    assert type(adapted.adapter).__module__ == "mylab.adapter"
    images = torch.rand(1, 3, 160, 160)
    features = adapted(images).patches
    with adapted.adapters_off():
        assert torch.equal(adapted(images).patches, load_backbone("test_vit", weights=weights)(images).patches)
        assert not torch.equal(adapted(images).patches, features)

    export = ["export", str(run), "--to", "timm", "--out", str(tmp_path / "timm"), "--trust", "mylab"]
    assert main(export) == 0
    merged = load_backbone("test_vit", weights=str(tmp_path / "timm" / "model.safetensors"))
    assert torch.allclose(merged(images).patches, features, atol=1e-5)

    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(image)
    pictures = ["inspect", str(image), "--adapter", adapter, "--weights", weights, "--out", str(tmp_path / "seen")]
    assert main([*pictures, "--trust", "mylab"]) == 0
    assert list((tmp_path / "seen").glob("*.png"))

    head = tmp_path / "head"
    given = [f"--model.init_args.backbone.init_args.adapter={adapter}", f"--trainer.default_root_dir={head}"]
    assert main(["fit", "--config", "segment.yaml", *backbone, *given]) == 0
    assert len(losses(head)) == 3


def test_an_unlabelled_data_module_is_watched_without_labels(backbone: list[str], tmp_path: Path) -> None:
    more = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--monitor.every_n_steps=1"]
    assert main(["fit", "--config", "pretrain.yaml", *backbone, *more]) == 0
    text = (tmp_path / "run" / "metrics.csv").read_text()
    assert "monitor/rank/patches" in text and "monitor/knn" not in text


def test_an_adapter_of_a_package_that_is_not_trusted_imports_nothing(
    backbone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", "pretrain.yaml", *backbone, f"--trainer.default_root_dir={run}"]) == 0
    forget(monkeypatch)
    with pytest.raises(UserError, match="mylab is not imported"):
        load_backbone("test_vit", weights=str(tmp_path / "vit.pth"), adapter=str(run / "adapter.safetensors"))
    assert "mylab" not in sys.modules


LINEAR = {"class_path": "src.segmentation.decoders.linear.LinearDecoder", "init_args": {"batch_norm": False}}


def test_a_built_in_head_takes_the_adapter_of_a_trusted_package_and_brings_it_along(
    backbone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, head = tmp_path / "run", tmp_path / "head"
    assert main(["fit", "--config", "pretrain.yaml", *backbone, f"--trainer.default_root_dir={run}"]) == 0
    config = yaml.safe_load(Path("segment.yaml").read_text())
    config["model"]["init_args"]["decoder"] = LINEAR
    (tmp_path / "linear.yaml").write_text(yaml.safe_dump(config))
    arguments = "--model.init_args.backbone.init_args"
    given = [f"{arguments}.adapter={run / 'adapter.safetensors'}", f"--trainer.default_root_dir={head}"]
    words = ["fit", "--config", str(tmp_path / "linear.yaml"), *backbone, *given]
    forget(monkeypatch)
    assert main(words) == 1
    assert "trust: [mylab]" in capsys.readouterr().err and "mylab" not in sys.modules
    assert main([*words, f"{arguments}.trust=[mylab]"]) == 0

    (run / "adapter.safetensors").unlink()  # the head's checkpoint holds its own
    forget(monkeypatch)
    assert main(["test", "--config", str(head / "config.yaml"), "--ckpt_path", "last"]) == 0
    assert json.loads((head / "evaluation.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_compares_them(
    backbone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "extension"
    shutil.copytree(EXTENSION, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    small = {
        "model.init_args.backbone.init_args": {"name": "test_vit", "weights": str(tmp_path / "vit.pth")},
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "data.init_args.size": 32,
    }
    sizes = {"pretrain": {"set": small}, "evaluate": {"set": small}, "columns": {"neighbours": {"set": small}}}
    study = {"extends": "study.yaml", **sizes}
    (folder / "small.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.chdir(folder)
    assert main(["study", "small.yaml", "--only", "frozen", "--only", "scale-shift"]) == 0, capfd.readouterr().out
    table = (folder / "runs" / "mylab-study" / "table.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| Scale and shift")]
    assert "…" not in row and row.count("|") == 4
