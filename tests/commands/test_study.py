"""`python -m src study` from pre-training to the table, on a tiny ViT and tiny scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml

from src.__main__ import main
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from tests.command_line import ROOT, SCENES, pretraining, segmentation
from tests.studies.cells_on_disk import fill, study_file

NEIGHBOURS = {
    "class_path": "src.probes.dense_knn.NearestNeighbours",
    "init_args": {"neighbours": 3, "backbone": {"class_path": "src.backbones.Backbone"}},
}


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frozen and adapted, linear head and nearest neighbours, one seed: five stages of a few seconds."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    weights = folder / "test_vit.pth"
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    steps = {"max_steps": 40, "log_every_n_steps": 4}
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(pretraining(folder / "unused", **steps)))
    (folder / "segment.yaml").write_text(yaml.safe_dump(segmentation(folder / "unused", max_epochs=2, max_steps=-1)))
    data = {f"data.init_args.{key}": value for key, value in SCENES["init_args"].items()}
    backbone = "model.init_args.backbone.init_args"
    weighted = {f"{backbone}.name": "test_vit", f"{backbone}.weights": str(weights)}
    content = {
        "name": "tiny",
        "title": "Frozen against adapted",
        "seeds": [3],
        "pretrain": {
            "config": str(folder / "pretrain.yaml"),
            "set": {**weighted, "checkpoint.every_n_steps": 2, "checkpoint.min_seconds": 0.0},
        },
        "evaluate": {"set": {**data, **weighted, "trainer.limit_val_batches": 0}},
        "rows": {"frozen": {"label": "Frozen", "pretrain": None}, "glare": {"label": "GLARE"}},
        "columns": {
            "linear": {"label": "Linear", "data": "scenes", "config": str(folder / "segment.yaml")},
            "knn": {
                "label": "3-NN",
                "data": "scenes",
                "config": str(folder / "segment.yaml"),
                "seeded": False,
                "set": {"trainer.max_epochs": 1, "model": NEIGHBOURS, **weighted},
            },
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def start(study: Path, runs: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "src", "study", str(study), "--runs", str(runs)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished_output(process: subprocess.Popen[bytes], code: int) -> str:
    """Output of the process until it ends with `code`; it never outlives the test."""
    try:
        output = process.communicate(timeout=1200)[0].decode()
    finally:
        process.kill()
    assert process.returncode == code, output
    return output


def numbers(runs: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in runs.glob("cells/*/metrics.json")}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_half_way_it_goes_on_and_ends_with_the_same_numbers(tiny_study: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_study.read_text())
    content["columns"].pop("knn")
    study, calm, broken = tmp_path / "tiny.yaml", tmp_path / "calm", tmp_path / "broken"
    study.write_text(yaml.safe_dump(content, sort_keys=False))
    finished_output(start(study, calm), 0)
    assert len(numbers(calm)) == 3

    process = start(study, broken)  # killed within the pre-training, after its first checkpoint
    pretrained = next(cell for cell in Study.read(study).cells.values() if cell.stage == "pretrain")
    checkpoint = Store(broken / "cells").folder(pretrained) / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = numbers(broken)
    assert len(finished) == 1  # the frozen row's
    written = {path: path.stat().st_mtime_ns for path in broken.glob("cells/*/metrics.json")}

    output = finished_output(start(study, broken), 0)
    assert "resumed" in output
    assert "1 of 3 stages are done already" in output
    assert numbers(broken) == numbers(calm)
    assert {path: path.stat().st_mtime_ns for path in written} == written  # finished parts were not run again
    assert json.loads((checkpoint.parents[1] / "provenance.json").read_text())["resumed"]

    table = json.loads((broken / "tiny" / "table.json").read_text())
    assert table["complete"]
    assert [row["entries"]["linear"]["n"] for row in table["rows"]] == [1, 1]
    assert {item["word"] for item in table["verdicts"]} == {"one seed"}
    report = (broken / "tiny" / "report.html").read_text()
    assert report.count("<img") >= 2 * 4 + 2 * 3
    assert "Regional loss" in report
    assert "| GLARE |" in (broken / "tiny" / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_row_that_fails_is_reported_and_the_others_stand(tiny_study: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_study.read_text())
    content["columns"].pop("linear")
    content["rows"]["broken"] = {"pretrain": {"set": {"model.init_args.adapter.init_args.rank": "many"}}}
    content["rows"].pop("glare")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    output = finished_output(start(path, tmp_path / "runs"), 1)
    assert "FAILED" in output
    table = (tmp_path / "runs" / "tiny" / "table.md").read_text()
    assert "| Frozen | " in table
    assert "rank: Expected a int. Got value: many" in table  # the log's last line
    assert "| broken | … |" in table


def test_a_dry_run_lists_what_would_run_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path)
    assert main(["study", str(path), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert output.count("would run") == 10  # nine cells and the sum
    assert "9 of 9 stages would run" in output
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_estimates_from_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "runs" / "cells")
    fill(study, store)  # 60 s, 1 GiB and 1 MiB each
    for cell in list(study.cells.values())[-2:]:
        (store.folder(cell) / "metrics.json").unlink()
    main(["study", str(study.path), "--runs", str(tmp_path / "runs"), "--dry-run"])
    output = capsys.readouterr().out
    assert output.count(": done") == 7
    assert "2 of 9 stages would run, about 2 min one after another; at most 1.0 GiB of memory each, 2 MiB" in output


def test_a_finished_study_is_rendered_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "runs" / "cells")
    fill(study, store)
    assert main(["study", str(study.path), "--runs", str(tmp_path / "runs")]) == 0
    assert "9 of 9 stages are done already" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "runs" / "small")) == [
        "report.html",
        *(f"table.{kind}" for kind in ("csv", "json", "md", "png", "svg", "tex")),
    ]


@pytest.mark.slow
def test_ten_thousand_cells_are_planned_in_seconds(tmp_path: Path) -> None:
    """Of 2 columns × 5 seeds × 700 rows, of which each evaluates and most pre-train."""
    rows: dict[str, Any] = {"frozen": {"pretrain": None}}
    rows |= {f"r{index}": {"pretrain": {"set": {"trainer.max_steps": index}}} for index in range(700)}
    path = study_file(tmp_path, rows=rows, seeds=list(range(5)))
    assert main(["study", str(study_file(tmp_path / "one")), "--dry-run"]) == 0  # imports
    began = time.process_time()
    study = Study.read(path)
    assert len(study.cells) > 10_000
    assert main(["study", str(path), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "the following arguments are required: file"),
        (["{study}", "--job", "2"], 2, "no flag --job, did you mean '--jobs'?"),
        (["{study}", "--jobs", "0"], 2, "--jobs: expected a whole number from 1, found '0'"),
        (["{study}", "--only", "linea"], 2, "no row or column 'linea', did you mean 'linear'?"),
        (["{study}", "--seed", "7"], 2, "no seed 7, the study's are"),
        (["none.yaml"], 2, "none.yaml: no such file"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    path = study_file(tmp_path)
    assert main(["study", *(argument.format(study=path) for argument in arguments)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain": {"set": {"trainer.max_step": 3}}}, "GLARE on scenes, seed 0: no key 'trainer.max_step'"),
        (
            {"evaluate": {"set": {"data.init_args.sizes": 32}}},
            "evaluate Frozen, Linear, seed 0: no key 'data.init_args.sizes'",
        ),
        ({"evaluate": {"set": {"monitor.every": 3}}}, "no key 'monitor.every'"),
        ({"evaluate": {"set": {"modle.lr": 3}}}, "no key 'modle', did you mean 'model'?"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
def test_a_misspelt_key_is_found_before_anything_runs(
    changes: dict[str, Any], message: str, mode: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain = {"config": str(tmp_path / "pretrain.yaml"), **changes.get("pretrain", {})}
    path = study_file(tmp_path, **{**changes, "pretrain": pretrain})
    assert main(["study", str(path), "--runs", str(tmp_path / "runs"), *mode]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stage", ["pretrain", "evaluate"])
def test_sides_that_are_no_multiple_of_the_patch_are_found_before_anything_runs(
    stage: str, tiny_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(tiny_study.read_text())
    content[stage]["set"]["data.init_args.size"] = 33
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["study", str(tmp_path / "x.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert "data.init_args.size: expected multiples of 16" in error and "use 32" in error and error.count("\n") == 1
    assert not list((tmp_path / "runs").glob("cells/*/metrics.json"))


def test_the_pictures_material_is_that_of_the_evaluation(tmp_path: Path) -> None:
    """`write_samples` predicts as the test did: the same confusion on the images that both have."""
    from src.cli import main as run
    from src.studies.results.samples import read_samples
    from src.studies.run.sampling import write_samples

    config = segmentation(tmp_path / "run", max_steps=2, limit_val_batches=0)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    command = run(["fit", "--config", str(tmp_path / "c.yaml")])
    command.trainer.test(command.model, datamodule=command.datamodule, verbose=False)
    write_samples(tmp_path / "samples.npz", command.model, command.datamodule)
    samples = read_samples(tmp_path / "samples.npz")
    assert samples is not None
    with np.load(tmp_path / "run" / "confusion.npz") as file:
        names, matrices = file["names"].tolist(), file["matrices"]
    assert [image.name for image in samples.images] == names  # both of the two
    for image, matrix in zip(samples.images, matrices, strict=True):
        counted = np.zeros_like(matrix)
        np.add.at(counted, (image.truth.ravel(), image.prediction.ravel()), 1)
        assert (counted == matrix).all()
        assert image.features.shape == (64, 2, 2)
    assert samples.class_names == command.model.class_names
    assert samples.palette.shape == (len(samples.class_names), 3)
