"""Metrics: a file that only grows, and two loggers of one key each."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.callbacks import loggers
from src.callbacks.loggers import MetricsFile, Wandb
from src.cli import main as run
from tests.command_line import ROOT, losses, pretraining, written


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestMetricsFile:
    def test_a_new_metric_becomes_a_column_and_keeps_the_rows(self, tmp_path: Path) -> None:
        MetricsFile(tmp_path / "run").log_metrics({"epoch": 0, "train/loss": 1.5}, step=3)
        MetricsFile(tmp_path / "run").log_metrics({"epoch": 1, "val/miou": 0.5}, step=4)  # another process, later
        assert rows(tmp_path / "run" / "metrics.csv") == [
            {"epoch": "0", "step": "3", "train/loss": "1.5", "val/miou": ""},
            {"epoch": "1", "step": "4", "train/loss": "", "val/miou": "0.5"},
        ]

    def test_rows_of_known_metrics_are_appended_in_place(self, tmp_path: Path) -> None:
        file = MetricsFile(tmp_path)
        file.log_metrics({"loss": 1.0}, step=0)
        before = (tmp_path / "metrics.csv").read_bytes()
        file.log_metrics({"loss": 2.0}, step=1)
        assert (tmp_path / "metrics.csv").read_bytes() == before + b"1,2.0\r\n"


@pytest.mark.parametrize("given", ["TensorBoard", "Wandb"])
def test_metrics_csv_is_written_beside_every_other_logger(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    run(["fit", "--config", path, "--trainer.logger", given])
    assert len(losses(tmp_path / "run")) == 2
    if given == "TensorBoard":
        assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_no_logger_means_no_file(tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", logger=False))])
    assert not (tmp_path / "run" / "metrics.csv").exists()


class TestWandb:
    def test_a_run_folder_keeps_its_run(self, tmp_path: Path) -> None:
        versions = []
        for folder in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
            logger = Wandb()
            logger.attach(folder)
            versions.append(logger.version)
        assert versions[0] == versions[1] != versions[2]
        assert (tmp_path / "a" / "wandb_id.txt").read_text() == versions[0]

    @pytest.mark.parametrize(("account", "answers", "offline"), [(0, 1, True), (1, 0, True), (1, 1, False)])
    def test_online_only_with_an_account_and_an_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: int, answers: int, offline: bool
    ) -> None:
        def connect(*_: object, **__: object) -> SimpleNamespace:
            if not answers:
                raise OSError("no network")
            return SimpleNamespace(close=lambda: None)

        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))  # where an account's .netrc would be
        monkeypatch.setattr(loggers.socket, "create_connection", connect)
        if account:
            monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        else:
            monkeypatch.delenv("WANDB_API_KEY", raising=False)
        logger = Wandb()
        logger.attach(tmp_path / "run")
        assert logger._offline is offline

    @pytest.mark.slow
    def test_a_real_offline_run_gets_the_configuration_under_one_key(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
        names = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        done = subprocess.run(
            [sys.executable, "-m", "src", "fit", "--config", path, "--trainer.logger", "Wandb"],
            cwd=ROOT,
            env={**names, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
        assert folder.name.endswith((tmp_path / "run" / "wandb_id.txt").read_text())
        (record,) = folder.glob("*.wandb")  # what `wandb sync` sends; not every version writes config.yaml offline
        logged = re.findall(
            rb"config[^{]{1,12}(\{\"seed_everything\".*?\"max_steps\":2,)", record.read_bytes(), re.DOTALL
        )
        assert len(logged) == 1
