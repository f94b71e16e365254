"""Flags win over configuration files wherever they stand, in hyphens or underscores."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import yaml

from src.cli import main as run
from src.config.flags import check_config_given, config_first, underscored
from src.core.errors import CommandLineError
from tests.command_line import pretraining, segmentation, written


def test_files_keep_their_order_and_so_do_flags() -> None:
    words = ["fit", "--a", "1", "--config", "x.yaml", "--b=2", "-c=y.yaml", "--a", "3"]
    assert config_first(words) == ["fit", "--config", "x.yaml", "-c=y.yaml", "--a", "1", "--b=2", "--a", "3"]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_flag_wins_wherever_it_stands(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"fit": pretraining}.get(command, segmentation)(tmp_path, max_epochs=50)
    first = written(tmp_path / "x.yaml", config)
    second = written(tmp_path / "y.yaml", {"trainer": {"max_epochs": 20, "limit_test_batches": 3}})
    pairs = [("--config", first), ("--trainer.max_epochs", "7")]
    orders = [
        *permutations(pairs),
        [("--trainer.max_epochs", "7"), *pairs[:1], ("--config", second)],
        [*pairs[:1], ("--trainer.max-epochs", "7"), ("-c", second)],
        [pairs[0], ("--config", second)],
    ]
    for order in orders:
        for spelt in ([word for pair in order for word in pair], ["=".join(pair) for pair in order]):
            with pytest.raises(SystemExit) as stop:
                run([command, *spelt, "--print_config"])
            assert stop.value.code in (0, None)
            trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
            flagged = any("epochs" in name for name, _ in order)
            assert trainer["max_epochs"] == (7 if flagged else 20), spelt
            assert trainer["limit_test_batches"] == (3 if second in dict(order).values() or len(order) == 3 else None)


def test_hyphens_stand_for_underscores_in_names_of_arguments_alone() -> None:
    flag = "--model.init_args.objectives.my-level.init_args.start-weight=a-b"
    assert underscored(["fit", flag]) == ["fit", flag.replace("start-weight", "start_weight")]
    assert underscored(["fit", "--trainer.max-steps", "--ckpt-path=a-b.ckpt", "a-b", "-c", "x-y.yaml"]) == [
        "fit", "--trainer.max_steps", "--ckpt_path=a-b.ckpt", "a-b", "-c", "x-y.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_command_without_a_configuration_says_where_they_are(command: str, tmp_path: Path) -> None:
    for rest in ([], ["--trainer.max_steps", "3"], ["--ckpt_path", "last"]):
        with pytest.raises(CommandLineError, match="python -m src list"):
            run([command, *rest])
    (tmp_path / "checkpoints").mkdir()
    for checkpoint in (tmp_path / "checkpoints" / "last.ckpt", tmp_path / "best.ckpt"):
        with pytest.raises(CommandLineError, match=f"add --config {tmp_path}/config.yaml, if"):
            run([command, "--ckpt_path", str(checkpoint)])
        (tmp_path / "config.yaml").touch()
        with pytest.raises(CommandLineError, match=f"add --config {tmp_path}/config.yaml$"):
            run([command, f"--ckpt-path={checkpoint}"])
        (tmp_path / "config.yaml").unlink()


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--model.help", "x"], ["--model", "x.Y"], ["-c", "x.yaml"]])
def test_help_and_a_named_model_need_no_configuration(words: list[str]) -> None:
    check_config_given(["fit", *words])


def test_a_misspelt_config_is_recognised() -> None:
    with pytest.raises(CommandLineError, match="no flag --confg, did you mean '--config'"):
        check_config_given(["fit", "--confg", "x.yaml"])
