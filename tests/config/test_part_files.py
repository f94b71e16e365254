"""A part of a configuration in a file of its own has the rules of every other file."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from src.__main__ import main
from src.cli import main as run
from src.config.part_files import check_part_files, inlined
from src.core.errors import CommandLineError
from tests.command_line import pretraining, written

EXPECTED = {"model": LightningModule, "data": LightningDataModule}
MODEL = "src.pretraining.ContinualPretraining"


@pytest.mark.parametrize("flag", ["--model", "--trainer", "--data", "--guards", "--trainer.logger"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_file_on_the_command_line_is_replaced_by_its_content(tmp_path: Path, flag: str, joined: bool) -> None:
    (tmp_path / "below.yaml").write_text("a: 1e-3\nb: 1")
    (tmp_path / "x.yaml").write_text("extends: below.yaml\nb: 'no'")
    given = [f"{flag}={tmp_path / 'x.yaml'}"] if joined else [flag, str(tmp_path / "x.yaml")]
    found = inlined(["fit", *given, "--ckpt_path", str(tmp_path / "x.yaml")])
    text = found[1].partition("=")[2] if joined else found[2]
    assert yaml.safe_load(text.replace("1e-3", "0.001")) == {"a": 0.001, "b": "no"}
    assert found[-1] == str(tmp_path / "x.yaml")  # no part of a configuration


def test_other_words_stay(tmp_path: Path) -> None:
    words = ["fit", "--config", str(tmp_path), "--model", MODEL, "--model.init_args.head", "x.yaml", "--data={a: 1}"]
    assert inlined(words) == words


def test_a_whole_configuration_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {class_path: a.B}\ntrainer: {max_steps: 1}")
    for flag in ("--model", "--trainer"):
        with pytest.raises(CommandLineError, match=f"{flag} .*found a whole configuration with the key .*--config"):
            inlined(["fit", flag, str(tmp_path / "x.yaml")])


@pytest.mark.parametrize("content", ["a: 1\na: 2", "a: !!python/name:os.system", "[1]"])
def test_a_part_that_the_reader_refuses_is_refused(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(content)
    path = written(tmp_path / "y.yaml", pretraining(tmp_path / "run"))
    assert main(["fit", "--config", path, "--model", str(tmp_path / "x.yaml")]) != 0
    assert f"error: {tmp_path / 'x.yaml'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "part.yaml"),
        ("data", "part.yml"),
        ("trainer", "part.json"),
        ("guards", "part.yaml"),
        ("trainer.logger", "part.yaml"),
        ("trainer.callbacks.0", ["part.yaml"]),
        ("model.init_args.backbone", "part.yaml"),
        ("model.init_args.head", "part.yaml"),
        ("model.init_args.adapter", "there"),
        ("model.init_args.objectives.local", "part.yaml"),
        ("model.init_args.optimisation", "part.yaml"),
    ],
)
def test_a_file_within_a_file_is_refused_with_the_line_that_extends_it(tmp_path: Path, key: str, value: Any) -> None:
    config = deepcopy(pretraining(tmp_path))
    node, (*parents, last) = config, key.removesuffix(".0").split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    (tmp_path / "there").write_text("a: 1")
    name = value[0] if isinstance(value, list) else value
    with pytest.raises(CommandLineError, match=rf"x\.yaml: {key}: .*found the file {name}; .*extends: {name}"):
        check_part_files(tmp_path / "x.yaml", config, EXPECTED, {"trainer": Trainer, "guards": Namespace})


def test_texts_and_class_paths_are_no_files(tmp_path: Path) -> None:
    config = deepcopy(pretraining(tmp_path, logger="TensorBoard"))
    config["model"]["init_args"]["backbone"]["init_args"]["weights"] = "weights.json"
    config["model"]["init_args"]["adapter"] = "src.backbones.adapters.LoRA"
    check_part_files(tmp_path / "x.yaml", config, EXPECTED, {"trainer": Trainer})


def test_a_model_of_its_own_file_trains_as_the_same_model_in_one_file(tmp_path: Path) -> None:
    config = pretraining(tmp_path / "run")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(config.pop("model")))
    (tmp_path / "changed.yaml").write_text("extends: model.yaml\ninit_args: {optimisation: {lr: 5e-3}}")
    path = written(tmp_path / "x.yaml", config)
    command = run(["fit", "--config", path, "--model", str(tmp_path / "changed.yaml"), "--trainer.max_steps", "1"])
    assert command.model.optimisation.lr == 5e-3
    path = written(tmp_path / "y.yaml", {**config, "model": str(tmp_path / "model.yaml")})
    with pytest.raises(CommandLineError, match=r"y\.yaml: model: expected a mapping, found the file"):
        run(["fit", "--config", path])
