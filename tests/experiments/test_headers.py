"""Numbers in the headers of pre-training yamls are those of the configuration below them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from src.config.composition import lookup
from src.config.yaml_reader import read
from tests.command_line import ROOT

FILES = sorted((ROOT / "experiments" / "pretrain").rglob("*.yaml"))


def header(path: Path) -> str:
    return " ".join(line.strip("# ") for line in path.read_text().splitlines() if line.startswith("#"))


def levels(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The objectives that are computed."""
    objectives = config["model"]["init_args"]["objectives"].values()
    return [each for each in objectives if (each.get("init_args") or {}).get("weight", 1.0)]


@pytest.mark.parametrize("path", [path for path in FILES if "falls from about" in path.read_text()], ids=str)
def test_the_loss_begins_at_uniform_predictions(path: Path) -> None:
    config, text = read(path), header(path)
    prototypes = lookup(config, "model.init_args.head.init_args.prototypes")
    (stated,) = re.findall(r"falls from about ([\d.]+) \((?:.*?)log (\d+)", text)
    assert int(stated[1]) == prototypes
    assert float(stated[0]) == pytest.approx(len(levels(config)) * math.log(prototypes), abs=0.06)


@pytest.mark.parametrize("path", [path for path in FILES if "steps of 256" in path.read_text()], ids=str)
def test_the_steps_at_the_papers_scale_are_those_of_its_epochs(path: Path) -> None:
    config, text = read(path), header(path)
    (images,) = re.findall(r"the ([\d,]+) training images", text)
    (steps,) = re.findall(r"([\d,]+) steps of 256 images", text)
    batch, epochs = lookup(config, "data.init_args.batch_size"), lookup(config, "trainer.max_epochs")
    assert batch == 256 and int(steps.replace(",", "")) == int(images.replace(",", "")) // batch * epochs


@pytest.mark.parametrize("path", [path for path in FILES if path.stem == "glare-calibrated"], ids=str)
def test_the_minutes_of_the_calibrated_preset_follow_from_its_steps(path: Path) -> None:
    (minutes,) = re.findall(r"about (\d+) minutes \(estimated: 4\.5 seconds a step", header(path))
    steps = lookup(read(path), "trainer.max_steps")
    assert int(minutes) == pytest.approx(steps * 4.5 / 60, abs=1)
