"""No configuration runs code: each tries to write a marker file, through the real command line."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from src.__main__ import main
from src.failures import CommandLineError
from src.injection import COMMAND_LINE_ONLY, check_import, check_injected, guarded_imports
from src.studies import config as study_config
from src.studies.cells import Cell, Store
from src.studies.execution import stage_config
from src.studies.study import Study
from tests.command_line import ROOT, pretraining, segmentation, written
from tests.test_cli import set_key

MODEL = "model.init_args"
HEAD = f"{MODEL}.head"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path with a user's package and with modules whose import writes the marker."""
    marker = f"open({str(tmp_path / 'marker')!r}, 'w').close()\n"
    for name in ("writes_a_file", "writes_a_package"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(marker)
        (tmp_path / name / "inner.py").write_text("class Plain: pass\nclass Odd(Exception): pass\ndef run(): pass\n")
    (tmp_path / "writes_a_module.py").write_text(marker + "class Plain: pass\nrun = print\n")
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").write_text("from .adapters import *\n")
    (tmp_path / "mylab" / "adapters.py").write_text(
        "import src.models.adapters as kinds\nclass Base(kinds.UniAdapter): pass\nclass Mine(Base): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mylab", "writes_a_file", "writes_a_package", "writes_a_module"):
            del sys.modules[name]


def shell(marker: str) -> dict[str, Any]:
    return {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}}


def calls(path: str, /, **arguments: Any) -> Callable[[str], Any]:
    """A class_path with arguments in which MARKER stands for the file."""
    return lambda marker: {
        "class_path": path,
        "init_args": json.loads(json.dumps(arguments).replace("MARKER", marker)),
    }


def callback(hook: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda marker: [
        {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": hook(marker)}}
    ]


def named(path: str) -> Callable[[str], Any]:
    return lambda marker: {"class_path": path}


PRETRAINING: list[tuple[str, Callable[[str], Any]]] = [
    ("model", shell),
    ("data", shell),
    (HEAD, shell),
    (HEAD, lambda marker: "os.system"),
    (HEAD, calls("subprocess.run", args=["touch", "MARKER"])),
    (HEAD, calls("subprocess.Popen", args=["touch", "MARKER"])),
    (HEAD, calls("builtins.exec", source="open('MARKER', 'w')")),
    (HEAD, calls("builtins.eval", source="open('MARKER', 'w')")),
    (HEAD, calls("builtins.open", file="MARKER", mode="w")),
    (HEAD, calls("pathlib.Path.touch", self="MARKER")),
    (HEAD, calls("functools.partial", func="os.system")),
    (HEAD, calls("operator.methodcaller", name="touch")),
    (HEAD, calls("importlib.import_module", name="writes_a_module")),
    (HEAD, calls("runpy.run_path", path_name="MARKER")),
    (HEAD, calls("src.cli.os.system", command="touch MARKER")),
    (HEAD, calls("src.studies.execution.write_json", path="MARKER", content={})),
    (HEAD, calls("torch.save", obj=1, f="MARKER")),
    (HEAD, named("writes_a_module.run")),
    (HEAD, named("writes_a_module.Plain")),
    (HEAD, named("writes_a_package.inner.Plain")),
    (HEAD, named("writes_a_package.inner.Odd")),
    (HEAD, named("writes_a_package.nothing.Here")),
    (HEAD, named("writes_a_file.inner.run")),
    (HEAD, named("antigravity.webbrowser")),
    (f"{HEAD}.init_args.hidden", shell),
    (f"{MODEL}.backbone", shell),
    (f"{MODEL}.backbone.init_args.weights", shell),
    (f"{MODEL}.adapter", shell),
    (f"{MODEL}.adapter", lambda marker: "writes_a_module.Plain"),
    (f"{MODEL}.patch_augmentation", shell),
    (f"{MODEL}.optimisation", shell),
    (f"{MODEL}.objectives.local", shell),
    (f"{MODEL}.objectives.local.init_args.targets", shell),
    ("data.init_args.transforms", shell),
    ("data.dict_kwargs", lambda marker: {"extra": shell(marker)}),
    ("trainer.callbacks", lambda marker: [shell(marker)]),
    ("trainer.callbacks", lambda marker: ["writes_a_module.run"]),
    ("trainer.callbacks", callback(shell)),
    ("trainer.callbacks", callback(lambda marker: "os.abort")),
    ("trainer.callbacks", callback(calls("functools.partial", func="os.system"))),
    ("trainer.logger", shell),
    ("trainer.logger", lambda marker: [shell(marker)]),
    ("trainer.logger", lambda marker: {"class_path": "TensorBoard", "dict_kwargs": {"comment": shell(marker)}}),
    ("trainer.plugins", shell),
    ("trainer.plugins", lambda marker: [shell(marker)]),
    ("trainer.strategy", shell),
    ("trainer.strategy", lambda marker: "writes_a_module.run"),
    ("trainer.profiler", shell),
    ("trainer.accelerator", shell),
    ("checkpoint", shell),
    ("monitor.every_n_steps", shell),
    ("guards", shell),
    ("seed_everything", shell),
    ("weights_only", lambda marker: False),
    ("weights_only", lambda marker: "no"),
    ("ckpt_path", lambda marker: "last"),
]
SEGMENTATION: list[tuple[str, Callable[[str], Any]]] = [
    (f"{MODEL}.decoder", shell),
    (f"{MODEL}.decoder", lambda marker: "os.system"),
    (f"{MODEL}.decoder", calls("functools.partial", func="os.system")),
    (f"{MODEL}.decoder", calls("torch.nn.Linear", out_features=2)),
    (f"{MODEL}.adapter", shell),
    (f"{MODEL}.inference", shell),
    (f"{MODEL}.class_names", shell),
]


def refused(arguments: list[str], marker: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends with; the marker is not there."""
    capsys.readouterr()
    code = main(arguments)
    shown = capsys.readouterr().err
    lines = [line for line in shown.strip().splitlines() if not line.startswith("Seed set to")]
    assert not marker.exists(), "the configuration ran code"
    assert code in (1, 2)
    assert len(lines) == 1 and lines[0].startswith("error: "), shown
    return lines[0]


class TestFit:
    """Exit code 1 or 2, one line, and nothing has run."""

    @pytest.mark.parametrize(
        ("base", "key", "value"),
        [(pretraining, *case) for case in PRETRAINING] + [(segmentation, *case) for case in SEGMENTATION],
    )
    def test_is_refused(
        self,
        lab: Path,
        capsys: pytest.CaptureFixture[str],
        base: Callable[[Path], dict[str, Any]],
        key: str,
        value: Callable[[str], Any],
    ) -> None:
        config, found = base(lab / "run"), value(str(lab / "marker"))
        yaml_file = written(lab / "x.yaml", set_key(config, key, found))
        refused(["fit", "--config", yaml_file], lab / "marker", capsys)
        if key not in COMMAND_LINE_ONLY:  # a sweep's parameters come as flags
            flag = f"--{key}={found if isinstance(found, str) else json.dumps(found)}"
            refused(["fit", "--config", written(lab / "x.yaml", config), flag], lab / "marker", capsys)
        assert "writes_a_module" not in sys.modules and "antigravity" not in sys.modules
