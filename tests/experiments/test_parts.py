"""Each method, data set, head and scale is defined once, and experiments and studies take the same definition."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src.config.composition import Config, override
from src.config.yaml_reader import load, read
from src.studies.plan.study import Study
from tests.command_line import ROOT

EXPERIMENTS = ROOT / "experiments"
ENTRIES = ("pretrain", "segment", "studies", "sweeps")
PARTS = sorted(
    path for path in EXPERIMENTS.glob("*/**/*.yaml") if path.relative_to(EXPERIMENTS).parts[0] not in ENTRIES
)
STUDIES = [("main", "mini"), ("main", "paper"), ("real-images", None), ("classification", "mini"), ("losses", "mini")]
METHODS = ("dino", "udi", "ibot", "full", "glare", "diet", "dino-lora-gram")


def without_folder(config: Config) -> Config:
    return override(config, {"trainer.default_root_dir": None})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "scale"), STUDIES)
def test_a_row_is_its_method_under_the_changes_of_the_study(
    name: str, scale: str | None, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("src.studies.plan.study.config_digest", lambda config: "")
    monkeypatch.setattr("src.studies.plan.study.has_data", lambda column: True)
    study = Study.read(EXPERIMENTS / "studies" / f"{name}.yaml", scale)
    if method not in study.rows:
        pytest.skip(f"{name} has no row {method}")
    compared = 0
    for cell in study.only([method], [study.seeds[0]]).cells.values():
        if cell.stage == "pretrain":
            data = read(EXPERIMENTS / "data" / f"{data_set(cell.config)}.yaml")["data"]["class_path"]
            assert cell.config["data"]["class_path"] == data
            file = EXPERIMENTS / "pretrain" / data_set(cell.config) / f"{method}.yaml"
            if file.is_file():
                changes = study.pretrain.get("set") or {}
                columns = [column for column in study.columns.values() if column.data == data_set(cell.config)]
                own = columns[0].pretrain.get("set") or {}
                expected = override(override(read(file), changes), own)
                assert without_folder(cell.config) == without_folder(expected)
                compared += 1
    assert compared or scale == "paper", "no row was compared with its yaml"


def data_set(config: Config) -> str:
    return next(
        path.stem
        for path in (EXPERIMENTS / "data").glob("*.yaml")
        if load(path)["data"]["class_path"] == config["data"]["class_path"]
    )


def test_the_tutorial_is_glare_on_scenes_written_out() -> None:
    assert "extends" not in load(EXPERIMENTS / "tutorial.yaml")
    scenes = read(EXPERIMENTS / "pretrain" / "scenes" / "glare.yaml")
    assert without_folder(read(EXPERIMENTS / "tutorial.yaml")) == without_folder(scenes)


@pytest.mark.parametrize("path", PARTS, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_each_part_is_used_and_says_its_purpose(path: Path) -> None:
    texts = {file: file.read_text() for file in EXPERIMENTS.rglob("*.yaml") if file != path}
    name = re.escape("/".join(path.relative_to(EXPERIMENTS).parts[1:]))
    assert any(re.search(rf"[/ \[]{name}\b", text) for text in texts.values()), "nothing uses it"
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("kind", ["pretrain", "segment"])
def test_an_experiment_says_only_its_own(kind: str) -> None:
    for path in EXPERIMENTS.glob(f"{kind}/*/*.yaml"):
        content = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert len(content) <= 6, path
