"""A yaml file given to the wrong command is refused with the right one."""

from pathlib import Path

import pytest

from src.cli import main
from src.core.errors import CommandLineError
from src.studies.plan.study import Study
from src.sweeps.definition import Sweep

FILES = {
    "fit": "model: {class_path: src.pretraining.ContinualPretraining}\n",
    "study": "rows: {a: {label: A}}\n",
    "sweep": "parameters: {model.init_args.lr: {min: 0.1, max: 0.2}}\n",
}
COMMANDS = {"fit": "fit --config", "study": "study", "sweep": "sweep"}


@pytest.mark.parametrize("given", FILES)
@pytest.mark.parametrize("command", FILES)
def test_another_kind(tmp_path: Path, given: str, command: str) -> None:
    if given == command:
        return
    path = tmp_path / "x.yaml"
    path.write_text(FILES[given])
    read = {"fit": lambda: main(["fit", "--config", str(path)]), "study": lambda: Study.read(path)}
    with pytest.raises(CommandLineError) as told:
        read.get(command, lambda: Sweep.read(path))()
    assert str(told.value) == f"{path} configures a {given}, not a {command}: python -m src {COMMANDS[given]} {path}"
