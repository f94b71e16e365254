"""Metrics: a file that only grows, and loggers of one key each beside it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from src.callbacks.loggers import MetricsFile
from src.cli import main as run
from tests.command_line import losses, pretraining, written


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
    assert not (tmp_path / "run" / "wandb").exists()  # disabled is disabled
    if given == "TensorBoard":
        assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_no_logger_means_no_file(tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", logger=False))])
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_mlflow_by_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "MLFlowLogger is not tested: pip install 'glare-lightning[mlflow]'"
    mlflow = pytest.importorskip("mlflow", reason=reason)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    logger = {
        "class_path": "lightning.pytorch.loggers.MLFlowLogger",
        "init_args": {
            "experiment_name": "glare",
            "tracking_uri": uri,
            "artifact_location": str(tmp_path / "artifacts"),
        },
    }
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", logger=logger))])
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("glare")
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.value for point in history] == pytest.approx(losses(tmp_path / "run"))
