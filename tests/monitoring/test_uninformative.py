"""Targets that say nothing, and structure that is lost, end a run in one plain sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from src.__main__ import main
from src.monitoring.feature_metrics import MetricPair
from src.monitoring.guards import Guards
from src.monitoring.health_checks import forgotten, uninformative, unstructured
from tests.command_line import losses, pretraining, written


@pytest.mark.parametrize(
    ("values", "fires"), [({"a": 0.01, "b": 0.049}, True), ({"a": 0.01, "b": 0.05}, False), ({}, False)]
)
def test_one_level_that_informs_is_enough(values: dict[str, float], fires: bool) -> None:
    signs = {f"kl_mean/{name}": MetricPair(value, 1.0) for name, value in values.items()}
    found = uninformative(signs | {"agreement": MetricPair(0.0, 0.0)}, 0.05)
    assert (found is not None) == fires
    if found:
        assert "0.0490 nats at most (b)" in found


@pytest.mark.parametrize(("upper", "fires"), [(0.85, True), (0.91, False), (math.nan, False)])
def test_structure_counts_with_its_interval(upper: float, fires: bool) -> None:
    signs = {"structure": MetricPair(0.8, 1.0), "structure/upper": MetricPair(upper, 1.0)}
    assert (unstructured(signs, 0.1) is not None) == fires
    assert unstructured({}, 0.1) is None


@pytest.mark.parametrize(("value", "fires"), [(0.14, True), (0.16, False), (math.nan, False)])
def test_little_of_the_frozen_features_is_left(value: float, fires: bool) -> None:
    found = forgotten({"retention": MetricPair(value, 0.6)}, 0.25)
    assert (found is not None) == fires
    if found:
        assert "14.0%" in found and "60.0%" in found
    assert forgotten({}, 0.25) is None


@pytest.mark.parametrize("guard", ["targets", "structure", "retention"])
def test_such_a_run_is_stopped_with_exit_code_0(
    guard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temperature of 100 makes all targets uniform, which only the sharper of two guards is asked to find."""
    config = pretraining(tmp_path / "run", max_steps=20)
    config["monitor"] = {"max_share": 1.0, "every_n_steps": 2}
    config["guards"] = {"uniform": 1.0, "rank_share": 0.0, "harm_margin": 10.0, "spike": 100.0, "harm_patience": 2}
    if guard == "targets":
        config["model"]["init_args"]["optimisation"] = {"teacher_temperature": [100.0, 100.0], "lr": 1e-4}
    else:
        config["guards"] |= {"informs": 0.0, "retained": 0.25} if guard == "retention" else {"informs": 0.0}
        config["model"]["init_args"]["optimisation"] = {"lr": 1e-4}
        real = Guards._judge_signs

        def lowered(self: Guards, trainer) -> None:
            for monitor in trainer.callbacks:
                if hasattr(monitor, "signs") and guard in monitor.signs:
                    monitor.signs |= {name: MetricPair(0.2, 1.0) for name in (guard, f"{guard}/upper")}
            real(self, trainer)

        monkeypatch.setattr(Guards, "_judge_signs", lowered)
    assert main(["fit", "--config", written(tmp_path / "x.yaml", config)]) == 0
    assert len(losses(tmp_path / "run")) < 20
    notes = json.loads((tmp_path / "run" / "guards.json").read_text())
    said = {
        "targets": "carry almost no information",
        "structure": "dense structure is 0.200",
        "retention": "only 20.0%",
    }[guard]
    assert f", {guard}: " in notes["stopped"] and said in notes["stopped"]
    assert notes["stopped"] in capsys.readouterr().err
