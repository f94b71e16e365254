"""Old class paths and keys mean the new ones."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from src.cli import main as run
from src.config import renamed
from src.config.renamed import CLASS_PATHS, current, current_arguments, current_config

OLD = Path(__file__).with_name("glare-570062c.yaml")  # experiments/pretrain/scenes/glare.yaml of that commit


def test_class_paths_in_texts_and_flags() -> None:
    assert current("src.models.adapters.LoRA") == "src.backbones.adapters.LoRA"
    assert current("src.models.backbone.Backbone") == "src.backbones.Backbone"
    assert current("src.models.decoders.upernet.UPerNet") == "src.segmentation.decoders.upernet.UPerNet"
    assert current("see src.inference for more") == "see src.inference for more"
    old = ["--data.init_args.workers=0", "--data.init_args.job", "segment", "--x=src.probing.A"]
    assert current_arguments(old) == [
        "--data.init_args.num_workers=0",
        "--data.init_args.task",
        "segment",
        "--x=src.probes.dense_knn.A",
    ]


def test_configurations_at_any_depth_and_with_dotted_keys() -> None:
    old = {
        "pretrain": {"data": {"class_path": "datamodules.camvid.CamVidDataModule", "init_args": {"workers": 1}}},
        "evaluate": {"set": {"data.init_args.job": "segment"}},
        "objectives": [{"class_path": "src.objectives.targets.Centring"}],
    }
    assert current_config(old) == {
        "pretrain": {"data": {"class_path": "datamodules.camvid.CamVidDataModule", "init_args": {"num_workers": 1}}},
        "evaluate": {"set": {"data.init_args.task": "segment"}},
        "objectives": [{"class_path": "src.pretraining.targets.Centring"}],
    }


def test_each_old_name_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_warned", set())
    for _ in range(3):
        current("src.models.adapters.LoRA")
    assert [record.message for record in caplog.records] == [
        "src.models.adapters is now called src.backbones.adapters; the old name is still read"
    ]


@pytest.mark.parametrize("module", CLASS_PATHS.values())
def test_the_new_rooms_exist(module: str) -> None:
    assert import_module(module)


def test_a_yaml_of_before_the_move_fits_two_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renamed, "_warned", set())
    changes = {
        "model.init_args.backbone.init_args": {"name": "test_vit", "weights": "none"},
        "model.init_args.head.init_args": {"prototypes": 16, "hidden": 16},
        "data.init_args": {"batch_size": 2, "size": 32, "side": 64, "train_images": 4, "val_images": 2, "workers": 0},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": "false"},
        "trainer.default_root_dir": tmp_path / "run",
    }
    flags = [
        f"--{key}.{name}={item}" if isinstance(value, dict) else f"--{key}={value}"
        for key, value in changes.items()
        for name, item in (value.items() if isinstance(value, dict) else [("", value)])
    ]
    command = run(["fit", "--config", str(OLD), *flags])
    assert command.trainer.global_step == 2
    assert (tmp_path / "run" / "adapter.safetensors").is_file()
    said = [record.message for record in caplog.records if "is now called" in record.message]
    assert len(said) == len(set(said))
    assert "job is now called task; the old name is still read" in said
    assert "src.models" not in (tmp_path / "run" / "config.yaml").read_text()
