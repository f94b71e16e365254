"""A resumed run logs and writes what an uninterrupted one does, the frozen backbone's numbers included."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from src.__main__ import main
from src.cli import main as run
from tests.command_line import pretraining, weights, written

CLOCKED = {"monitor/share", "train/data_share", "train/images_per_second"}  # as fast as the machine
KINDS: dict[str, dict[str, Any]] = {
    "Full": {},
    "LastBlocks": {"count": 1},
    "BitFit": {},
    "UniAdapter": {"rank": 2},
    "AdaptFormer": {"rank": 2},
    "LoRA": {"rank": 2},
    "SLR": {"rank": 2},
}


def watched(folder: Path, kind: str, **trainer: Any) -> dict[str, Any]:
    """A tiny pre-training, looked at after each of four steps; guards warn and never stop it."""
    config = pretraining(folder, max_steps=4, **trainer)
    config["model"]["init_args"]["adapter"] = {"class_path": f"src.backbones.adapters.{kind}", "init_args": KINDS[kind]}
    patience = {"patience": 0, "harm_patience": 0}
    return {**config, "monitor": {"every_n_steps": 1, "max_share": 1.0}, "guards": patience}


def logged(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Step and value, as written, of each metric that is not of the clock."""
    columns: dict[str, list[tuple[int, str]]] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in {"step", "epoch"} | CLOCKED:
                    columns.setdefault(name, []).append((int(row["step"]), value))
    return columns


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("Full", "UniAdapter", "LoRA") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_resumed_run_logs_and_writes_what_an_uninterrupted_one_does(kind: str, tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "whole.yaml", watched(tmp_path / "whole", kind))])
    interrupt = {"class_path": "tests.command_line.InterruptAt", "init_args": {"step": 2}}
    parts = written(tmp_path / "parts.yaml", watched(tmp_path / "parts", kind, callbacks=[interrupt]))
    assert main(["fit", "--config", parts]) == 130
    assert main(["fit", "--config", parts, "--ckpt_path", "last", "--trainer.callbacks", "null"]) == 0
    whole, resumed = logged(tmp_path / "whole"), logged(tmp_path / "parts")
    for name in ("train/loss", "monitor/cosine/patches", "monitor/cosine/patches/frozen", "monitor/knn/frozen"):
        assert [step for step, _ in whole[name]] == [0, 1, 2, 3], name
    assert len({value for _, value in whole["monitor/cosine/patches"]}) == 4  # it moves away from the frozen one
    assert len({value for _, value in whole["monitor/rank/patches/frozen"]}) == 1
    assert resumed == whole
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "parts").items())
    assert (tmp_path / "parts/guards.json").exists() == (tmp_path / "whole/guards.json").exists()
    if (tmp_path / "whole/guards.json").exists():
        assert (tmp_path / "parts/guards.json").read_text() == (tmp_path / "whole/guards.json").read_text()
