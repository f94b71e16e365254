"""Weights & Biases: one run per run folder, online only where that works, and who used whose adapter."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from src.callbacks import weights_and_biases
from src.callbacks.weights_and_biases import Wandb, adapter_artifact, by_class, used_adapters
from tests.command_line import BACKBONE, ROOT, pretraining, with_arguments, written

EVALUATION = {
    "stage": "test",
    "class_names": ["road", "sky"],
    "iou": {"sky": None, "road": 0.5},
    "class_accuracy": {"sky": None, "road": 0.75},
}


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where an account's .netrc would be


def adapter_file(folder: Path) -> Path:
    """An adapter file and, as its run leaves it, the run's id beside it."""
    folder.mkdir(parents=True)
    (folder / "wandb_id.txt").write_text("made1234")
    names = ("backbone", "weight_hash", "adapter", "sizes", "step", "whose")
    save_file({"up": torch.ones(2)}, folder / "adapter.safetensors", {"format": "1", **dict.fromkeys(names, "x")})
    return folder / "adapter.safetensors"


class TestRunId:
    def attached(self, folder: Path, fresh: bool = False) -> str | None:
        logger = Wandb()
        logger.attach(folder, fresh)
        return logger.version

    def test_a_run_folder_keeps_its_run(self, tmp_path: Path) -> None:
        first, again, other = (self.attached(tmp_path / name) for name in ("a", "a", "b"))
        assert first == again != other
        assert (tmp_path / "a" / "wandb_id.txt").read_text() == first

    def test_a_new_fit_in_an_old_folder_is_a_new_run_that_its_test_continues(self, tmp_path: Path) -> None:
        first, second = (self.attached(tmp_path, fresh=True) for _ in range(2))
        assert first != second == self.attached(tmp_path)

    def test_a_run_that_an_agent_started_is_the_agents(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attached(tmp_path)
        monkeypatch.setenv("WANDB_RUN_ID", "agent123")
        assert self.attached(tmp_path, fresh=True) == "agent123" == (tmp_path / "wandb_id.txt").read_text()


@pytest.mark.parametrize(("group", "expected"), [(None, "from-outside"), ("chosen", "chosen")])
def test_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str | None, expected: str) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "from-outside")
    logger = Wandb(group=group)
    logger.attach(tmp_path, fresh=True)
    assert logger._wandb_init["group"] == expected


@pytest.mark.parametrize(("account", "answers", "offline"), [(0, 1, True), (1, 0, True), (1, 1, False)])
def test_online_only_with_an_account_and_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: int, answers: int, offline: bool
) -> None:
    def connect(*_: object, **__: object) -> SimpleNamespace:
        if not answers:
            raise OSError("no network")
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(weights_and_biases.socket, "create_connection", connect)
    if account:
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    logger = Wandb()
    logger.attach(tmp_path / "run", fresh=True)
    assert logger._offline is offline


@pytest.mark.parametrize("chosen", [None, True, False])
@pytest.mark.parametrize("switch", ["online", "offline", "dryrun", "disabled"])
def test_wandbs_own_switch_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: bool | None, switch: str
) -> None:
    monkeypatch.setattr(weights_and_biases.socket, "create_connection", lambda *_, **__: SimpleNamespace(close=print))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", switch)
    logger = Wandb(offline=chosen)
    logger.attach(tmp_path / "run", fresh=True)
    offline = switch in ("offline", "dryrun") or (switch == "online" and chosen is True)
    assert logger._offline is offline
    assert logger._wandb_init.get("mode") == ("disabled" if switch == "disabled" else "offline" if offline else None)
    assert weights_and_biases.reachable() is (switch == "online")


def test_what_wandbs_commands_have_left_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    assert weights_and_biases.switched() == "online"
    for folder, mode in (("config", "offline"), ("wandb", "disabled")):  # this folder's wins over the account's
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "settings").write_text(f"[default]\nmode = {mode}\n")
        assert weights_and_biases.switched() == mode
    monkeypatch.setenv("WANDB_MODE", "online")
    assert weights_and_biases.switched() == "online"
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "wandb" / "settings").write_bytes(b"\xff[")
    assert weights_and_biases.switched() in ("offline", "online")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_commands_leave_it_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    subprocess.run([sys.executable, "-m", "wandb", mode], check=True, capture_output=True)
    assert weights_and_biases.switched() == mode


class TestLineage:
    def test_the_configurations_adapter_is_found(self) -> None:
        config = {"model": {"init_args": {"backbone": with_arguments(BACKBONE, adapter="a/adapter.safetensors")}}}
        assert list(used_adapters({"config": config})) == [Path("a/adapter.safetensors")]
        # an adapter to be installed is no file
        assert list(used_adapters(pretraining(Path("run")))) == []

    def test_the_same_file_is_the_same_artifact(self, tmp_path: Path) -> None:
        made = adapter_file(tmp_path / "a")
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        copied = tmp_path / "copy.safetensors"
        copied.write_bytes(made.read_bytes())
        one, other = adapter_artifact(made), adapter_artifact(copied)
        assert one.name.split(":")[0] == other.name.split(":")[0] == f"adapter-{digest[:12]}"
        assert one.digest == other.digest
        assert (one.metadata["sha256"], one.metadata["run"]) == (digest, "made1234")
        assert "run" not in other.metadata

    def test_with_a_server_the_adapter_is_declared_as_used(self, tmp_path: Path) -> None:
        used: list[Any] = []
        configured = SimpleNamespace(update=lambda *_, **__: None)
        logger = Wandb()
        logger.attach(tmp_path / "run", fresh=True)
        logger._offline, logger._experiment = False, SimpleNamespace(config=configured, use_artifact=used.append)
        backbone = with_arguments(BACKBONE, adapter=str(adapter_file(tmp_path / "a")))
        logger.log_hyperparams({"config": {"model": backbone}})
        assert [artifact.metadata["run"] for artifact in used] == ["made1234"]


def test_a_row_for_each_class_in_their_order() -> None:
    columns, rows = by_class(EVALUATION)
    assert columns == ["class", "test/iou", "test/accuracy"]
    assert rows == [["road", 0.5, 0.75], ["sky", None, None]]


def test_no_module_of_ours_imports_wandb_before_its_logger_needs_it() -> None:
    # by the source: timm imports it as well, wherever it is installed
    for file in (ROOT / "src").rglob("*.py"):
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("wandb" in ast.unparse(node).split()[1] for node in top), file


@pytest.mark.slow
def test_a_real_offline_run_has_configuration_adapters_and_table(tmp_path: Path) -> None:
    used = adapter_file(tmp_path / "used")
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    code = f"""
import sys
from pathlib import Path
from src.callbacks.weights_and_biases import Wandb
from src.cli import main
from src.pretraining import ContinualPretraining

def evaluated(self):  # during the run: a file of an earlier run is moved away at its start
    Path(self.trainer.default_root_dir, "evaluation.json").write_text({json.dumps(EVALUATION)!r})

ContinualPretraining.on_train_end = evaluated
logger = main(sys.argv[2:]).trainer.loggers[1]
logger.log_hyperparams({{"b": {{"class_path": "src.Backbone", "init_args": {{"adapter": sys.argv[1]}}}}}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(used), "fit", "--config", path, "--trainer.logger", "Wandb"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,  # a question would end it
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)]
    synced = subprocess.run(command, capture_output=True, text=True)
    assert synced.returncode == 0 and folder.name in synced.stdout + synced.stderr, synced.stdout + synced.stderr
    assert folder.name.endswith((tmp_path / "run" / "wandb_id.txt").read_text())
    (record,) = folder.glob("*.wandb")  # what `wandb sync` sends; not every version writes config.yaml offline
    content = record.read_bytes()
    logged = re.findall(rb"config[^{]{1,12}(\{\"seed_everything\".*?\"max_steps\":2,)", content, re.DOTALL)
    assert len(logged) == 1
    made = hashlib.sha256((tmp_path / "run" / "adapter.safetensors").read_bytes()).hexdigest()
    assert f"adapter-{made[:12]}".encode() in content
    assert hashlib.sha256(used.read_bytes()).hexdigest().encode() in content
    assert b"table-file" in content
