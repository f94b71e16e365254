"""The study of heads on CamVid: each row trains two steps and is scored, on a tiny ViT and tiny images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.cli import main as run
from src.config.composition import override
from src.config.yaml_reader import write
from src.studies.plan.study import Study
from tests.command_line import ROOT
from tests.datamodules.miniatures import paired

PATH = ROOT / "experiments" / "studies" / "camvid-decoders.yaml"
TINY = {
    "model.init_args.backbone.init_args.name": "test_vit",
    "model.init_args.backbone.init_args.weights": "none",
    "data.init_args.batch_size": 2,
    "data.init_args.size": [32, 48],
    "data.init_args.num_workers": 0,
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.limit_val_batches": 1,
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
}


@pytest.mark.parametrize("row", ["linear", "semantic_fpn", "upernet"])
def test_each_head_trains_and_gives_every_column(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    paired(tmp_path / "camvid")
    study = Study.read(PATH).only([row])
    (config,) = {cell.made: cell.config for cell in study.cells.values()}.values()
    changes = {**TINY, "trainer.default_root_dir": str(tmp_path / "run")}
    if row != "linear":
        changes["model.init_args.decoder.init_args.blocks"] = [1, 2, 4, 5]
    write(tmp_path / "stage.yaml", override(config, changes))
    command = run(["fit", "--config", str(tmp_path / "stage.yaml")])
    assert command.trainer.global_step == 2
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    assert all(0 <= scores[column.metric] <= 1 for column in study.columns.values())
    assert (tmp_path / "run" / "pictures" / "val-000002.png").is_file()
