"""Meaning of a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from src.studies.plan.cells import Spot
from src.studies.plan.study import Study
from tests.core.test_names import BAD
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


def test_a_row_may_name_the_file_of_its_evaluation(tmp_path: Path) -> None:
    rows = {
        "frozen": {"pretrain": None},
        "own": {"pretrain": None, "evaluate": {"config": str(tmp_path / "{data}.yaml")}},
    }
    path = study_file(tmp_path, rows=rows, evaluate={"set": {"trainer.max_epochs": 5}})
    data = Study.read(path).columns["linear"].data
    (tmp_path / f"{data}.yaml").write_text("model: {init_args: {lr: 8}}\n", encoding="utf-8")
    study = Study.read(path)
    config = study.cells[study.spots[Spot("own", "linear", 0)]].config
    assert config["model"]["init_args"]["lr"] == 8
    assert config["trainer"]["max_epochs"] == 5  # the study's changes are laid on it as on any other
    assert study.cells[study.spots[Spot("frozen", "linear", 0)]].config["model"]["init_args"]["lr"] != 8


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
        ({"baseline": "frosen"}, "baseline 'frosen' is not a row, did you mean 'frozen'"),
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


def test_a_scale_is_laid_over_the_study(tmp_path: Path) -> None:
    scales = {
        "mini": {"seeds": [0], "judged": False, "pretrain": {"set": {"trainer.max_steps": 3}}},
        "paper": {"title": "Large"},
    }
    path = study_file(tmp_path, scales=scales, pretrain={"config": str(tmp_path / "pretrain.yaml"), "set": {"a": 1}})
    mini, paper = Study.read(path, "mini"), Study.read(path, "paper")
    assert (mini.name, mini.seeds, mini.judged, mini.title) == ("small-mini", (0,), False, "A small study")
    assert (paper.name, paper.seeds, paper.judged, paper.title) == ("small-paper", (0, 1), True, "Large")
    assert mini.pretrain["set"] == {"a": 1, "trainer.max_steps": 3}
    assert paper.pretrain["set"] == {"a": 1}
    assert mini.command.endswith("small.yaml --scale mini")
    with pytest.raises(ValueError, match="expected --scale with one of mini, paper, found none"):
        Study.read(path)
    with pytest.raises(ValueError, match="found midi"):
        Study.read(path, "midi")
    with pytest.raises(ValueError, match="no scale 'mini', the file has no `scales`"):
        Study.read(study_file(tmp_path), "mini")


def test_the_command_names_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (ROOT / "experiments/studies/quickstart.yaml", Path("experiments/studies/quickstart.yaml")):
        monkeypatch.chdir(ROOT)
        assert Study.read(path).command == "python -m src study experiments/studies/quickstart.yaml"


def test_scales_may_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "scales.yaml").write_text("mini: {seeds: [7]}")
    assert Study.read(study_file(tmp_path, scales=str(tmp_path / "scales.yaml")), "mini").seeds == (7,)


def test_an_optional_column_is_left_out_and_named_where_its_data_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    columns = {
        name: {
            "label": name.title(),
            "data": name,
            "config": str(tmp_path / "segment.yaml"),
            "optional": True,
            "set": {"data.init_args.root": str(tmp_path / name)},
        }
        for name in ("there", "missing")
    }
    study = Study.read(study_file(tmp_path, columns=columns))
    assert (list(study.columns), study.left_out) == (["there"], ("Missing",))
    alone = Study.read(study_file(tmp_path, columns={"missing": columns["missing"]}))  # to say what it lacks
    assert all(cell.missing == (f"data folder {tmp_path / 'missing'}",) for cell in alone.cells.values() if cell.lacks)
    assert [cell.stage for cell in alone.cells.values() if cell.missing] == ["evaluate"] * 4


def test_a_column_may_change_the_pre_training_too(tmp_path: Path) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "pretrain": {"set": {"model.init_args.k": 5}}}
    study = Study.read(study_file(tmp_path, columns={"c": column}))
    cell = study.cells[study.spots[Spot("glare", "c", 0)]]
    assert cell.needs is not None
    assert cell.needs.config["model"]["init_args"]["k"] == 5
    assert "k" not in cell.config["model"]["init_args"]


def test_only_places_come_in_addition(tmp_path: Path) -> None:
    study = Study.read(study_file(tmp_path))
    places = {(spot.row, spot.column) for spot in study.only(["glare/linear"]).spots}
    assert places == {("glare", "linear")}
    places = {(spot.row, spot.column) for spot in study.only(["glare/linear", "frozen"]).spots}
    assert places == {("glare", "linear"), ("frozen", "linear"), ("frozen", "knn")}
    with pytest.raises(ValueError, match="expected ROW/COLUMN, found 'linear/glare'"):
        study.only(["linear/glare"])


def test_only_seeds(tmp_path: Path) -> None:
    study = Study.read(study_file(tmp_path, seeds=[0, 1, 2]))
    assert {spot.seed for spot in study.only(seeds=[2, 0]).spots} == {0, 2}
    assert {(spot.row, spot.seed) for spot in study.only(["glare"], [1]).spots} == {("glare", 1)}
    assert set(study.only(["glare"], [1]).cells) < set(study.only(["glare"]).cells)
    with pytest.raises(ValueError, match="no seed 3, the study's are 0, 1, 2"):
        study.only(seeds=[3])


def test_published_values_belong_to_rows(tmp_path: Path) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "paper": {"glarre": 41.6}}
    with pytest.raises(ValueError, match="column c, paper: 'glarre' is not a row, did you mean 'glare'"):
        Study.read(study_file(tmp_path, columns={"c": column}))


ROOT = Path(__file__).resolve().parents[3]
STUDIES = sorted((ROOT / "experiments" / "studies").glob("*.yaml"))
TABLES = {"main", "losses", "adapters", "patch-augmentation", "regions", "inits", "efficiency", "classification"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_planned(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("camvid", "cwfid"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    content = yaml.safe_load(path.read_text())
    assert content["name"] == path.stem
    assert f"python -m src study experiments/studies/{path.name}" in path.read_text().split("\nname:")[0]
    study = Study.read(path, "mini" if path.stem in TABLES else None)
    assert len(study.cells) == len({cell.title for cell in study.cells.values()})
    if path.stem in TABLES:
        assert not study.judged
        assert not any(column.paper for column in study.columns.values())  # toy sizes beside no published value


def test_the_paper_s_eight_values_stand_in_the_main_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {path.stem for path in STUDIES} >= TABLES | {"quickstart", "camvid"}
    columns = Study.read(Path("experiments/studies/main.yaml"), "paper").columns
    assert {name: column.paper for name, column in columns.items()} == {
        "ade20k": {"frozen": 41.2, "glare": 41.6},
        "pascal_context": {"frozen": 49.1, "glare": 49.3},
        "cityscapes": {"frozen": 74.7, "glare": 75.3},
        "loveda": {"frozen": 50.9, "glare": 51.5},
    }


WRITABLE = [name for name in BAD if name.isascii() or name.isprintable()]  # a yaml cannot hold half a character


@pytest.mark.parametrize("name", WRITABLE, ids=ascii)
@pytest.mark.parametrize("key", ["name", "row", "column", "data", "adapted_on", "scale"])
def test_names_that_become_parts_of_paths_are_no_paths(key: str, name: str, tmp_path: Path) -> None:
    if key == "adapted_on" and not name:
        pytest.skip("an empty one is none")
    changes: dict[str, Any]
    column = {"label": "L", "data": "scenes", "config": str(tmp_path / "segment.yaml")}
    if key == "name":
        changes = {"name": name}
    elif key == "row":
        changes = {"rows": {"frozen": {"pretrain": None}, name: {}}}
    elif key == "scale":
        changes = {"scales": {name: {"title": "T"}}}
    else:
        changes = {"columns": {name: column} if key == "column" else {"linear": {**column, key: name}}}
    with pytest.raises(ValueError, match="expected one folder name, found"):
        Study.read(study_file(tmp_path, **changes), name if key == "scale" else None)


@pytest.mark.parametrize("name", [None, True, [], {"a": 1}], ids=repr)
def test_a_study_s_name_is_text(name: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name: expected one folder name, found"):
        Study.read(study_file(tmp_path, name=name))


@pytest.mark.parametrize("name", ["cells", "Cells"])
def test_a_study_is_not_called_as_the_folder_of_cells(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the folder of all studies' cells"):
        Study.read(study_file(tmp_path, name=name))


def test_a_number_is_a_name(tmp_path: Path) -> None:
    assert Study.read(study_file(tmp_path, name=2024)).name == "2024"
