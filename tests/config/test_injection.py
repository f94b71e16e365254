"""No configuration runs code: each tries to write a marker file, through the real command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
import yaml
from lightning.pytorch import LightningModule

from src.__main__ import main
from src.config import yaml_reader
from src.config.injection import COMMAND_LINE_ONLY, guarded_imports
from src.studies.plan.cells import Cell, Store
from src.studies.plan.study import Study
from src.studies.run.execution import stage_config
from tests.command_line import pretraining, segmentation, written
from tests.config.hostile_values import HEAD, MODEL, PRETRAINING, SEGMENTATION, shell
from tests.test_cli import set_key


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
        "import src.backbones.adapters as kinds\nclass Base(kinds.UniAdapter): pass\nclass Mine(Base): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mylab", "writes_a_file", "writes_a_package", "writes_a_module"):
            del sys.modules[name]


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

    def test_the_message_names_the_file_and_the_key(self, lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(lab / "x.yaml", set_key(pretraining(lab), HEAD, shell(str(lab / "marker"))))
        line = refused(["fit", "--config", path], lab / "marker", capsys)
        assert line == (
            f"error: {path}: {HEAD}.class_path: expected a class, found os.system, a function; name a class instead"
        )

    @pytest.mark.parametrize("key", ["model", "trainer.logger", "trainer.callbacks"])
    def test_a_file_that_the_yaml_names_is_checked_too(
        self, lab: Path, capsys: pytest.CaptureFixture[str], key: str
    ) -> None:
        inner = written(lab / "inner.yaml", shell(str(lab / "marker")))
        value = [inner] if key == "trainer.callbacks" else inner
        path = written(lab / "x.yaml", set_key(pretraining(lab / "run"), key, value))
        line = refused(["fit", "--config", path], lab / "marker", capsys)
        assert key in line and inner in line

    def test_an_empty_variable_does_not_hide_a_path(
        self, lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOTHING", "")
        hidden = {**shell(str(lab / "marker")), "class_path": "os.system${NOTHING}"}
        for key, value in (
            (HEAD, hidden),
            ("trainer.logger", {"class_path": "TensorBoard", "dict_kwargs": {"a": hidden}}),
        ):
            path = written(lab / "x.yaml", set_key(pretraining(lab / "run"), key, value))
            assert "os.system" in refused(["fit", "--config", path], lab / "marker", capsys)

    @pytest.mark.parametrize(
        "tag", ["!!python/object/apply:os.system [touch MARKER]", "!!python/name:os.system ", "!!python/module:this "]
    )
    def test_python_tags_are_refused_by_every_reader(
        self, lab: Path, capsys: pytest.CaptureFixture[str], tag: str
    ) -> None:
        marker, path = lab / "marker", lab / "x.yaml"
        path.write_text(f"rows: {tag}\nmodel: {tag}\n".replace("MARKER", str(marker)))
        for command in ("fit", "validate", "test", "predict"):
            assert "not valid yaml" in refused([command, "--config", str(path)], marker, capsys)
        for command in ("study", "sweep"):
            assert "not valid yaml" in refused([command, str(path)], marker, capsys)
        good = written(lab / "good.yaml", pretraining(lab / "run"))
        refused(["fit", "--config", good, f"--model={tag.replace('MARKER', str(marker))}"], marker, capsys)

    def test_only_the_command_line_turns_weights_only_off(self, lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(lab / "x.yaml", {**pretraining(lab / "run", max_steps=1), "weights_only": False})
        assert "--weights_only on the command line" in refused(["fit", "--config", path], lab / "marker", capsys)
        with pytest.warns(UserWarning, match="the checkpoint can run any code"):
            assert main(["fit", "--config", path, "--weights_only=false"]) == 0
        again = ["fit", "--config", str(lab / "run" / "config.yaml"), f"--trainer.default_root_dir={lab / 'again'}"]
        kept = yaml.safe_load((lab / "run" / "config.yaml").read_text())
        assert (kept["weights_only"], kept["ckpt_path"]) == (True, None)
        assert main([*again, "--ckpt_path", str(lab / "run" / "checkpoints" / "last.ckpt")]) == 0
        assert yaml.safe_load((lab / "again" / "config.yaml").read_text())["ckpt_path"] is None


def test_classes_of_a_package_of_ones_own_work(lab: Path) -> None:
    config = pretraining(lab / "run", max_steps=1)
    assert main(["fit", "--config", written(lab / "x.yaml", config), f"--{MODEL}.adapter=mylab.Mine"]) == 0
    adapter = {"class_path": "mylab.adapters.Mine", "init_args": {"rank": 2}}
    config = set_key(config, f"{MODEL}.adapter", adapter)
    assert main(["fit", "--config", written(lab / "x.yaml", config)]) == 0


class TestStudiesAndSweeps:
    """They start processes with a configuration: the same line ends those."""

    @pytest.mark.parametrize("where", ["row", "evaluate", "pretrain", "column"])
    def test_a_study_hands_its_cells_what_is_refused(
        self, lab: Path, capsys: pytest.CaptureFixture[str], where: str
    ) -> None:
        marker = lab / "marker"
        fit, probe = (written(lab / f"{base.__name__}.yaml", base(lab / "run")) for base in (pretraining, segmentation))
        bad: dict[str, Any] = {f"{MODEL}.backbone": shell(str(marker))}
        content: dict[str, Any] = {
            "seeds": [0],
            "pretrain": {"config": fit, "set": bad if where == "pretrain" else {}},
            "evaluate": {"set": bad if where == "evaluate" else {}},
            "rows": {"glare": {"set": bad if where == "row" else {}}},
            "columns": {"linear": {"data": "scenes", "config": probe, "set": bad if where == "column" else {}}},
        }
        study = Study.read(Path(written(lab / "study.yaml", content)))
        cells: list[Cell] = list(study.cells.values())
        codes = []
        for cell in cells:
            config = stage_config(cell, Store(lab / "cells"))
            yaml_reader.write(lab / "stage.yaml", config)
            if config["model"]["init_args"]["backbone"].get("class_path") == "os.system":
                codes.append(refused(["fit", "--config", str(lab / "stage.yaml")], marker, capsys))
        assert len(codes) == (2 if where == "row" else 1)

    @pytest.mark.parametrize(
        "changes",
        [
            {"command": ["bash", "-c", "touch MARKER", "${args}"]},
            {"command": ["${interpreter}", "-c", "open('MARKER', 'w')", "${args}"]},
            {"command": ["${env}", "${interpreter}", "-m", "timeit", "open('MARKER', 'w')", "${args}"]},
            {"command": ["${interpreter}", "-m", "${program}", "${args}"]},
            {"program": "timeit"},
            {"program": "writes_a_module.py"},
            {"parameters": {"weights_only": {"value": False}}},
            {"parameters": {"ckpt_path": {"value": "x.ckpt"}}},
            {"command": ["${interpreter}", "-m", "${program}", "fit", "--weights_only", "false", "${args}"]},
            {"command": ["${interpreter}", "-m", "${program}", "fit", "--ckpt_path=x.ckpt", "${args}"]},
        ],
    )
    def test_a_sweep_starts_fits_alone(
        self, lab: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
    ) -> None:
        content = {
            "program": "src",
            "method": "grid",
            "metric": {"name": "train/loss"},
            "parameters": {"trainer.max_steps": {"value": 1}},
            "command": ["${interpreter}", "-m", "${program}", "fit", "${args}"],
        }
        changed = json.loads(json.dumps({**content, **changes}).replace("MARKER", str(lab / "marker")))
        path = written(lab / "sweep.yaml", changed)
        line = refused(["sweep", path, "--local", "--out", str(lab / "out")], lab / "marker", capsys)
        assert path in line


def test_jsonargparse_imports_through_the_guard_alone(lab: Path) -> None:
    """Each of its ways to turn a text into an object, so that a new version cannot quietly open another."""
    kinds = (LightningModule, type[LightningModule], Callable[[], LightningModule], Callable, LightningModule | None)
    for kind in kinds:
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--x", type=kind)
        with guarded_imports() as found, pytest.raises(jsonargparse.ArgumentError):
            parser.parse_args(["--x=writes_a_module.Plain"])
        assert {path for path, _ in found} == {"writes_a_module.Plain"}
    assert "writes_a_module" not in sys.modules
