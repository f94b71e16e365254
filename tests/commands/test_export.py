"""`python -m src export` and `push`, from a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import yaml

from src import load_backbone
from src.__main__ import main
from src.backbones.adapted import adapted_backbone, recorded_arguments
from src.backbones.adapters import LoRA
from src.backbones.checkpoints import hub
from tests.command_line import pretraining, written


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_vit.pth"
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a LoRA of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    config = pretraining(folder)
    arguments = config["model"]["init_args"]
    arguments["backbone"] = {**arguments["backbone"], "init_args": {"name": "test_vit", "weights": str(weights)}}
    arguments["adapter"] = {"class_path": "src.backbones.adapters.LoRA", "init_args": {"rank": 2}}
    assert main(["fit", "--config", written(folder.with_suffix(".yaml"), config)]) == 0
    return folder


def test_a_run_folder_knows_its_weights(run: Path, weights: Path) -> None:
    backbone = adapted_backbone(run)
    loaded = load_backbone("test_vit", weights=str(weights), adapter=str(run / "adapter.safetensors"))
    images = torch.rand(1, 3, 48, 32)
    assert backbone.adapter == LoRA(rank=2)
    assert torch.equal(backbone(images).patches, loaded(images).patches)


def test_a_run_folder_knows_what_was_taken_from_its_weights(tmp_path: Path) -> None:
    given = {"name": "test_vit", "weights": "ssl.pth", "prefix": "student.vit", "position_grid": [9, 16]}
    config = {"model": {"init_args": {"backbone": {"init_args": {**given, "adapter": None, "trust": []}}}}}
    written(tmp_path / "config.yaml", config)
    assert recorded_arguments(tmp_path / "adapter.safetensors") == given


def test_an_adapter_alone_asks_for_the_weights(run: Path, weights: Path, tmp_path: Path, capsys) -> None:
    alone = tmp_path / "adapter.safetensors"
    alone.write_bytes((run / "adapter.safetensors").read_bytes())
    out = ["--to", "timm", "--out", str(tmp_path / "out")]
    assert main(["export", str(alone), *out]) == 1
    assert "--weights" in capsys.readouterr().err
    assert main(["export", str(alone), *out, "--weights", str(weights)]) == 0
    assert "timm.create_model" in capsys.readouterr().out


def test_the_printed_lines_load_what_was_written(run: Path, tmp_path: Path, capsys) -> None:
    images = torch.rand(1, 3, 96, 96)
    backbone = adapted_backbone(run)
    for to, out in (("timm", "m"), ("torch-export", "t"), ("hf", "h")):
        command = ["export", str(run), "--to", to, "--out", str(tmp_path / out), "--size", "96"]
        assert main(command) == 0
        scope: dict = {}
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
        exec("\n".join(lines), scope | {"images": images}, scope)
        expected = backbone(images).cls
        if to == "timm":  # a timm model pools as its name says; compare what it pools from
            found = scope["model"].eval().forward_features(backbone.normalise(images))[:, 0]
        elif to == "hf":
            assert scope["model"].pooler is None  # it was never trained
            found = scope["model"].eval()(pixel_values=backbone.normalise(images)).last_hidden_state[:, 0]
        else:
            found = scope["cls"]
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "hf", "--dynamic"], "takes any size anyway"),
        (["--to", "onnx", "--dynamic", "--size", "96"], "not allowed with"),
        (["--to", "tflite"], "found 'tflite'"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_read(words: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert main(["export", "no-such-run", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_the_model_card_says_what_it_is_without_paths(run: Path, weights: Path) -> None:
    text = (run / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["license"] == "unknown" and metadata["pipeline_tag"] == "image-feature-extraction"
    assert "lora" in metadata["tags"] and "base_model" not in metadata
    assert "2 optimiser steps" in body and "8 unlabelled images (ScenesDataModule)" in body
    assert adapted_backbone(run).weight_hash in body
    assert "Unknown: nothing was measured with labels" in body
    for path in (run, weights.parent, Path.home(), Path.cwd()):
        assert str(path) not in text


def test_push_uploads_the_adapter_and_its_card_alone(run: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    calls: list[dict] = []

    class Api:
        def create_repo(self, name: str, **options):
            calls.append({"name": name, **options})
            return f"https://hub/{name}"

        def upload_folder(self, **options) -> None:
            calls.append(options)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "_require_hub", lambda *_: None)
    assert main(["push", str(run), "org/fields", "--private"]) == 0
    assert calls[0] == {"name": "org/fields", "private": True, "exist_ok": True}
    assert calls[1]["allow_patterns"] == ["adapter.safetensors", "README.md"] and calls[1]["folder_path"] == run
    assert "https://hub/org/fields" in capsys.readouterr().out


def test_without_a_network_both_ways_say_so_in_one_line(run: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["push", str(run), "org/fields"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "hf://org/fields could not be pushed" in error
    with pytest.raises(ValueError, match="hf://org/fields could not be fetched") as raised:
        load_backbone("test_vit", weights="none", adapter="hf://org/fields")
    assert "\n" not in str(raised.value)


def test_an_adapter_of_the_hub_is_loaded(
    run: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(run))
    loaded = load_backbone("test_vit", weights=str(weights), adapter="hf://org/fields")
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(images).cls, adapted_backbone(run)(images).cls)


def test_a_run_without_a_card_is_not_pushed(run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "adapter.safetensors").write_bytes((run / "adapter.safetensors").read_bytes())
    assert main(["push", str(tmp_path), "org/fields"]) == 1
    assert "no README.md" in capsys.readouterr().err


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that `push` would upload."""
    folders: list[Path] = []
    monkeypatch.setattr("src.commands.push.push_files", lambda folder, *_: folders.append(folder.resolve()))
    return folders


def pushable(folder: Path, run: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("adapter.safetensors", "README.md"):
        (folder / name).write_bytes((run / name).read_bytes())
    return folder


def test_push_finds_the_current_run_or_the_only_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploaded: list[Path]
) -> None:
    mine = pushable(tmp_path / "runs" / "mine", run)
    monkeypatch.chdir(tmp_path)
    assert main(["push", "org/fields"]) == 0
    monkeypatch.chdir(mine)
    assert main(["push", "org/fields"]) == 0
    assert uploaded == [mine, mine]


def test_push_asks_which_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploaded: list[Path], capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["push", "org/fields"]) == 2
    assert "found none" in capsys.readouterr().err
    for name in ("one", "two"):
        pushable(tmp_path / "runs" / name, run)
    assert main(["push", "org/fields"]) == 2
    assert "found runs/one, runs/two" in capsys.readouterr().err
    assert main(["push", "runs/one"]) == 2
    assert "found the path runs/one" in capsys.readouterr().err
    assert main(["push", "runs/one", "org/fields"]) == 0
    assert uploaded == [tmp_path / "runs" / "one"]
