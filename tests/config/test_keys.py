"""Keys of whole configurations: misspelt ones are named, those that complete another file are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.config.composition import override
from src.config.keys import check_keys, fit_keys
from src.config.suggestions import misspelt
from src.core.errors import CommandLineError
from tests.command_line import pretraining, written

OBJECTIVES = "model.init_args.objectives"
ANCHOR = {"class_path": "src.pretraining.anchors.CosineAnchor"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{OBJECTIVES}.locl.init_args.weight", 0, f"x: no key '{OBJECTIVES}.locl', did you mean 'local'?"),
        ("trainer.max_step", 3, "x: no key 'trainer.max_step', did you mean 'max_steps'?"),
        ("checkpoint.every", 3, "x: no key 'checkpoint.every'"),
        ("guards.patients", 3, "x: no key 'guards.patients', did you mean 'patience'?"),
        ("model.init_args.optimisation.learning_rate", 1, "did you mean 'lr'?"),
    ],
)
def test_a_misspelt_key_is_named(key: str, value: Any, message: str) -> None:
    config = pretraining(Path("run"))
    check_keys(config, "x")
    with pytest.raises(CommandLineError) as error:
        check_keys(override(config, {key: value}), "x")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_may_complete_another_one(tmp_path: Path) -> None:
    whole = written(tmp_path / "x.yaml", pretraining(tmp_path))
    part = {"local": {"init_args": {"weight": 0}}, "anchor": ANCHOR}
    over = written(tmp_path / "y.yaml", {"model": {"init_args": {"objectives": part}}})
    assert misspelt(["--config", whole, "--config", over], fit_keys()) is None
