"""The command line, through the real `main([...])`, on tiny runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from src.__main__ import main
from src.cli import main as run
from tests.command_line import BACKBONE, losses, pretraining, segmentation, weights, with_arguments, written

LOCAL = "--model.init_args.objectives.local.init_args.weight"


def set_key(config: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy of `config` with one key set; the last part may be new."""
    config = node = copy.deepcopy(config)
    *path, last = dotted.split(".")
    for name in path:
        node = node[name]
    node[last] = value
    return config


class TestMisspelling:
    """Exit code 2 and one line with the key and its nearest valid spelling."""

    @staticmethod
    def line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    @pytest.mark.parametrize(
        ("key", "value", "shown", "meant"),
        [
            ("modle", {}, "'modle'", "'model'"),
            ("trainer.max_step", 3, "'trainer.max_step'", "'max_steps'"),
            ("model.init_arg", {}, "'model.init_arg'", "'init_args'"),
            ("model.init_args.objectivs", {}, "'model.init_args.objectivs'", "'objectives'"),
            ("model.init_args.backbone.init_args.wieghts", "none", "backbone.init_args.wieghts'", "'weights'"),
            ("model.init_args.objectives.local.init_args.wieght", 0, "local.init_args.wieght'", "'weight'"),
            ("model.init_args.objectives.locl", {"init_args": {"weight": 0}}, "objectives.locl'", "'local'"),
            ("data.init_args.batchsize", 2, "'data.init_args.batchsize'", "'batch_size'"),
            ("data.class_path", "datamodules.scenes.SceneDataModule", "SceneDataModule'", "scenes.ScenesDataModule'"),
            ("model.init_args.optimisation.learning_rate", 1, "optimisation.learning_rate'", "'lr'"),
            ("model.class_path", "src.pretrainin.ContinualPretraining", "src.pretrainin.", "'src.pretraining."),
        ],
    )
    def test_in_a_yaml(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, shown: str, meant: str
    ) -> None:
        path = written(tmp_path / "x.yaml", set_key(pretraining(tmp_path), key, value))
        line = self.line(["fit", "--config", path], capsys)
        assert shown in line and "did you mean '" in line and meant in line and path in line

    @pytest.mark.parametrize(
        ("flag", "value", "shown", "meant"),
        [
            ("--trainr.max_steps", "3", "--trainr.max_steps", "'trainer'"),
            ("--trainer.max_step", "3", "--trainer.max_step", "'max_steps'"),
            ("--model.init_args.hed.init_args.hidden", "3", "'hed'", "'head'"),
            ("--model.init_args.head.init_args.hiden", "3", "'hiden'", "'hidden'"),
            ("--model.init_args.objectives.locl.init_args.weight", "0", "'locl'", "'local'"),
            ("--data.init_args.sise", "64", "'sise'", "'size'"),
            ("--data", "datamodules.scenes.SceneDataModule", "SceneDataModule", "scenes.ScenesDataModule'"),
            ("--trainer.logger", "Wandbb", "'Wandbb'", "'Wandb'"),
            ("--seed_everythin", "3", "--seed_everythin", "'seed_everything'"),
            ("--model.init_args.optimisation.learning_rate", "1", "optimisation.learning_rate", "'lr'"),
            ("--model.init_args.optimisation.weight_deca", "1", "optimisation.weight_deca", "'weight_decay'"),
            ("--model.init-args.optimisation.lr-batch", "1", "optimisation.lr-batch", "'lr_batch'"),
        ],
    )
    def test_in_a_flag(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str, shown: str, meant: str
    ) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path))
        for arguments in ([flag, value], [f"{flag}={value}"]):
            line = self.line(["fit", "--config", path, *arguments], capsys)
            assert shown in line and "did you mean" in line and meant in line

    def test_of_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "'ft', did you mean 'fit'?" in self.line(["ft"], capsys)

    def test_a_value_of_the_wrong_type_names_key_type_and_value(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path))
        line = self.line(["fit", "--config", path, "--data.init_args.batch_size", "many"], capsys)
        assert "data" in line and "batch_size" in line and "int" in line and "many" in line

    def test_a_configuration_that_is_not_there_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere.yaml: no such file" in self.line(["fit", "--config", "nowhere.yaml"], capsys)

    def test_a_file_that_is_no_yaml_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.yaml").write_text("model: [")
        assert "x.yaml is not valid yaml" in self.line(["fit", "--config", str(tmp_path / "x.yaml")], capsys)


class TestUserErrors:
    """Exit code 1 and one message, without a traceback."""

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_broken_image_is_named_also_by_a_worker(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_workers: int
    ) -> None:
        (tmp_path / "images").mkdir()
        for index in range(4):
            (tmp_path / "images" / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
        folder = {
            "class_path": "datamodules.folder.FolderDataModule",
            "init_args": {
                "root": str(tmp_path),
                "size": 32,
                "batch_size": 2,
                "num_workers": num_workers,
                "cache": False,
            },
        }
        path = written(tmp_path / "x.yaml", {**pretraining(tmp_path / "run"), "data": folder})
        assert main(["fit", "--config", path]) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error and ".png" in error and error.count("error: ") == 1

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = {"class_path": "datamodules.camvid.CamVidDataModule", "init_args": {"root": str(tmp_path / "gone")}}
        path = written(tmp_path / "x.yaml", {**pretraining(tmp_path / "run"), "data": folder})
        assert main(["fit", "--config", path]) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error and str(tmp_path / "gone") in error

    def test_the_traceback_is_there_on_demand(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GLARE_TRACEBACK", "1")
        assert main(["fit", "--config", str(tmp_path / "gone.yaml")]) == 2
        assert "Traceback" in capsys.readouterr().err

    def test_a_checkpoint_that_is_not_there_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path))
        assert main(["fit", "--config", path, "--ckpt_path", "gone.ckpt"]) == 1
        assert "error: --ckpt_path gone.ckpt" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["validate", "test", "predict"])
    def test_a_head_without_a_checkpoint_is_refused_before_anything_is_loaded(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        config = segmentation(tmp_path / "run")
        gone = {"class_path": "datamodules.camvid.CamVidDataModule", "init_args": {"root": str(tmp_path / "gone")}}
        assert main([command, "--config", written(tmp_path / "x.yaml", {**config, "data": gone})]) == 2
        error = capsys.readouterr().err
        assert f"error: {command}: no trained head for src.segmentation.SemanticSegmentation" in error
        assert f"add --ckpt_path last, which is {tmp_path}/run/checkpoints/last.ckpt" in error
        assert not (tmp_path / "run").exists()

    def test_neighbours_need_no_checkpoint(self, tmp_path: Path) -> None:
        config = segmentation(tmp_path / "run")
        config["model"] = {"class_path": "src.probes.dense_knn.NearestNeighbours", "init_args": {"backbone": BACKBONE}}
        assert main(["test", "--config", written(tmp_path / "x.yaml", config)]) == 0
        assert (tmp_path / "run/evaluation.json").is_file()


class TestConfiguration:
    def test_one_flag_switches_an_objective_off(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
        command = run(["fit", "--config", path, LOCAL, "0"])
        assert set(command.model.objectives) == {"global", "regional"}
        resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["init_args"]["objectives"]
        assert [resolved[name]["init_args"]["weight"] for name in ("global", "regional", "local")] == [1, 1, 0]

    def test_the_model_learns_the_classes_from_the_data(self, tmp_path: Path) -> None:
        command = run(["fit", "--config", written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))])
        assert command.model.num_classes == command.datamodule.num_classes == 7
        assert command.model.class_names == command.datamodule.class_names

    def test_variables_are_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNS_HERE", str(tmp_path))
        config = set_key(pretraining(tmp_path), "trainer.default_root_dir", "${RUNS_HERE}/a")
        run(["fit", "--config", written(tmp_path / "x.yaml", config)])
        assert (tmp_path / "a" / "metrics.csv").is_file()

    def test_a_variable_that_is_not_set_is_named_with_its_key(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RUNS_HERE", raising=False)
        config = set_key(pretraining(tmp_path), "trainer.default_root_dir", "${RUNS_HERE}/a")
        path = written(tmp_path / "x.yaml", config)
        assert main(["fit", "--config", path]) == 2
        assert "trainer.default_root_dir is '${RUNS_HERE}/a', but RUNS_HERE is not set" in capsys.readouterr().err
        assert main(["fit", "--config", path, "--trainer.default_root_dir", str(tmp_path / "b")]) == 0


class TestRuns:
    @pytest.mark.parametrize("config", [pretraining, segmentation])
    def test_the_same_seed_gives_the_same_losses(self, tmp_path: Path, config: Callable[..., dict[str, Any]]) -> None:
        for name in ("a", "b"):
            run(["fit", "--config", written(tmp_path / f"{name}.yaml", config(tmp_path / name, max_steps=20))])
        assert len(losses(tmp_path / "a")) == 20
        assert losses(tmp_path / "a") == losses(tmp_path / "b")

    def test_a_run_repeats_from_its_own_config(self, tmp_path: Path) -> None:
        run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "a"))])
        again = ["--config", str(tmp_path / "a" / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "b")]
        run(["fit", *again])
        assert losses(tmp_path / "a") == losses(tmp_path / "b")

    def test_a_checkpoint_never_overrules_the_yaml(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
        run(["fit", "--config", path])
        changed = ["--model.init_args.optimisation.clip", "0.5", "--trainer.max_steps", "3"]
        command = run(["fit", "--config", path, "--ckpt_path", "last", *changed])
        assert command.model.optimisation.clip == 0.5
        assert command.trainer.global_step == 3

    def test_test_evaluates_what_fit_left(self, tmp_path: Path) -> None:
        run(["fit", "--config", written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))])
        before = (tmp_path / "run" / "config.yaml").read_text()
        command = run(["test", "--config", str(tmp_path / "run" / "config.yaml"), "--ckpt_path", "last"])
        assert 0 <= command.trainer.callback_metrics["test/miou"] <= 1
        assert (tmp_path / "run" / "evaluation.json").is_file()
        assert (tmp_path / "run" / "config.yaml").read_text() == before

    @pytest.mark.parametrize("train", ["head", "head+adapters"])
    def test_a_head_needs_no_adapter_file(self, tmp_path: Path, train: str, capsys: pytest.CaptureFixture[str]) -> None:
        run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "pre"))])
        config, file = segmentation(tmp_path / "run"), tmp_path / "pre" / "adapter.safetensors"
        config["model"]["init_args"] |= {"train": train, "backbone": with_arguments(BACKBONE, adapter=str(file))}
        run(["fit", "--config", written(tmp_path / "y.yaml", config)])
        command = ["test", "--config", str(tmp_path / "run" / "config.yaml"), "--ckpt_path", "last"]
        with_file = run(command).trainer.callback_metrics
        if train == "head":  # the README's way: the same yaml, without the flag
            plain = ["test", "--config", written(tmp_path / "z.yaml", segmentation(tmp_path / "run")), *command[3:]]
            assert run(plain).trainer.callback_metrics == with_file
        file.unlink()
        with pytest.warns(UserWarning, match=r"adapter\.safetensors not found; using the adapter in the checkpoint"):
            assert run(command).trainer.callback_metrics == with_file
        assert main([*command, "--model.init_args.backbone.init_args.adapter", str(file)]) == 1
        assert "adapter.safetensors not found" in capsys.readouterr().err

    @pytest.mark.parametrize("config", [pretraining, segmentation])
    def test_bf16_trains(self, tmp_path: Path, config: Callable[..., dict[str, Any]]) -> None:
        run(["fit", "--config", written(tmp_path / "x.yaml", config(tmp_path / "run", precision="bf16-mixed"))])
        full = run(["fit", "--config", written(tmp_path / "y.yaml", config(tmp_path / "full"))])
        assert full.trainer.precision == "32-true"
        assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "full"), rel=0.1)
        assert losses(tmp_path / "run") != losses(tmp_path / "full")
        assert all(tensor.dtype != torch.bfloat16 for tensor in weights(tmp_path / "run").values())


@pytest.mark.parametrize("command", ["predict", "test", "validate"])
def test_a_pretraining_run_is_refused_where_a_head_is_expected(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    assert main([command, "--config", path]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{command}: expected the configuration of a segmentation head" in line and "adapter.safetensors" in line
