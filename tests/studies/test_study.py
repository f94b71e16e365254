"""What a study file means."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from src.studies.cells import Spot
from src.studies.study import Study
from tests.studies.cells_on_disk import study_file


def test_cells_are_shared_where_they_are_the_same(tmp_path: Path) -> None:
    study = Study.read(study_file(tmp_path))
    stages = [(cell.stage, cell.seed) for cell in study.cells.values()]
    assert stages.count(("pretrain", 0)) == stages.count(("pretrain", 1)) == 1  # one for both columns
    assert len(study.spots) == 8
    # frozen: linear twice, nearest neighbours once; adapted: both twice
    assert len([stage for stage, _ in stages if stage == "evaluate"]) == 7
    assert study.spots[Spot("frozen", "knn", 0)] == study.spots[Spot("frozen", "knn", 1)]
    assert study.spots[Spot("glare", "knn", 0)] != study.spots[Spot("glare", "knn", 1)]


def test_each_cell_comes_after_the_one_it_needs_and_the_first_seed_first(tmp_path: Path) -> None:
    cells = list(Study.read(study_file(tmp_path)).cells.values())
    for position, cell in enumerate(cells):
        assert cell.needs is None or cell.needs in cells[:position]
    seeds = [cell.needs.seed if cell.needs else cell.seed for cell in cells]
    assert seeds == sorted(seeds)


def test_overrides_of_study_column_and_row_are_laid_on_in_this_order(tmp_path: Path) -> None:
    rows = {
        "frozen": {"pretrain": None},
        "a": {"set": {"trainer.max_steps": 7}, "evaluate": {"set": {"model.init_args.lr": 9}}},
        "b": {"pretrain": {"set": {"model.init_args.objectives.local.init_args.weight": 0}}},
    }
    path = study_file(tmp_path, rows=rows, evaluate={"set": {"trainer.max_epochs": 5, "model.init_args.lr": 1}})
    study = Study.read(path)

    def cell(row: str, column: str):
        return study.cells[study.spots[Spot(row, column, 0)]]

    assert cell("a", "knn").config["model"]["init_args"]["lr"] == 9
    assert cell("b", "knn").config["model"]["init_args"]["lr"] == 0.5
    assert cell("b", "linear").config["model"]["init_args"]["lr"] == 1
    assert cell("frozen", "linear").config["trainer"]["max_epochs"] == 5
    assert cell("a", "linear").needs.config["trainer"]["max_steps"] == 7
    assert cell("b", "linear").needs.config["model"]["init_args"]["objectives"]["local"]["init_args"]["weight"] == 0
    assert cell("frozen", "linear").needs is None


def test_data_names_the_file_of_the_pre_training(tmp_path: Path) -> None:
    path = study_file(tmp_path, pretrain={"config": str(tmp_path / "{data}.yaml")})
    with pytest.raises(FileNotFoundError, match=r"scenes\.yaml"):
        _ = Study.read(path).cells


def test_only_keeps_the_named_rows_and_columns(tmp_path: Path) -> None:
    study = Study.read(study_file(tmp_path))
    part = study.only(["glare", "linear"])
    assert (list(part.rows), list(part.columns)) == (["glare"], ["linear"])
    assert set(part.cells) < set(study.cells)
    assert list(study.only(["knn"]).rows) == ["frozen", "glare"]
    with pytest.raises(ValueError, match="no row or column 'glar', did you mean 'glare'"):
        study.only(["glar"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "no key `sedes`, did you mean 'seeds'"),
        ({"seeds": []}, "needs `seeds`"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": ["a"]}, "different whole numbers"),
        ({"baseline": "frosen"}, "baseline 'frosen' is no row, did you mean 'frozen'"),
        ({"rows": {"a": {"pretrian": None}}}, "row a: no key `pretrian`, did you mean 'pretrain'"),
        ({"rows": {"a": {"pretrain": {"sets": 1}}}}, "row a, pretrain: no key `sets`, did you mean 'set'"),
        ({"columns": {"c": {"data": "scenes"}}}, "column c: needs `config`"),
        ({"columns": {"c": 3}}, "column c: should be a mapping"),
        ({"pretrain": {"set": {}}}, "row glare: needs `pretrain.config`"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = study_file(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as failure:
        _ = Study.read(path).cells
    assert str(path) in str(failure.value)


def test_the_published_studies_can_be_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    (tmp_path / "camvid").mkdir()
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    paths = sorted((root / "experiments" / "studies").glob("*.yaml"))
    assert {"quickstart", "camvid"} <= {path.stem for path in paths}
    for path in paths:
        header = path.read_text().split("\nname:")[0]
        assert f"python -m src study experiments/studies/{path.name}" in header
        study = Study.read(path)
        assert len(study.cells) == len({cell.title for cell in study.cells.values()})
        assert yaml.safe_load(path.read_text())["name"] == path.stem
