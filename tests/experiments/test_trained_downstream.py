"""All rows of a table train the same number of parameters downstream, or the row says why not."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch

from src.backbones import adapters
from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.adapters.adapter import Adapter
from src.backbones.backbone import Backbone
from src.config.yaml_reader import read
from src.segmentation import SemanticSegmentation
from src.segmentation.decoders import semantic_fpn, upernet
from src.studies.plan.cells import Cell
from src.studies.plan.study import Study
from tests.backbones.test_adapters import KINDS
from tests.command_line import ROOT

STUDIES = ROOT / "experiments" / "studies"
MODEL = "vit_small_patch16_224"
DECODERS = {"SemanticFPN": semantic_fpn.SemanticFPN, "UPerNet": upernet.UPerNet}


@pytest.fixture(autouse=True)
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backbones without values: only sizes count here."""
    monkeypatch.setattr(
        "src.backbones.backbone.build_trunk",
        lambda name, *_: timm.create_model(name, num_classes=0, dynamic_img_size=True),
    )
    for module in ("src.backbones.backbone", "src.backbones.identity"):
        monkeypatch.setattr(f"{module}.weight_hash", lambda state: "")


def kind_of(config: Mapping[str, Any]) -> Adapter:
    return getattr(adapters, config["class_path"].rpartition(".")[2])(**config.get("init_args", {}))


def trained(settings: Mapping[str, Any], pretrained_with: Adapter | None) -> int:
    """Parameters that an evaluation trains on a backbone that carries this adapter."""
    decoder = settings["decoder"]
    with torch.device("meta"):
        backbone = Backbone(MODEL, "none")
        if pretrained_with is not None:
            backbone.install(pretrained_with)
        model = SemanticSegmentation(
            backbone,
            150,
            decoder=DECODERS[decoder["class_path"].rpartition(".")[2]],
            train=settings["train"],
            adapter=kind_of(settings["adapter"]) if settings.get("adapter") else None,
        )
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@functools.cache
def trained_by_text(settings: str, made_with: Adapter | None) -> int:
    return trained(json.loads(settings), made_with)


def trained_by(cell: Cell) -> int:
    """The same for a cell of a study."""
    settings = cell.config["model"]["init_args"]
    made_with = None if cell.needs is None else kind_of(cell.needs.config["model"]["init_args"]["adapter"])
    return trained_by_text(json.dumps({key: settings.get(key) for key in ("decoder", "train", "adapter")}), made_with)


def tables() -> list[str]:
    return [path.stem for path in sorted(STUDIES.glob("*.yaml")) if "scales" in read(path)]


@pytest.mark.parametrize("name", tables())
def test_rows_of_a_paper_scale_table_train_the_same_number_or_say_why(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("src.studies.plan.study.config_digest", lambda config: "")
    study = Study.read(STUDIES / f"{name}.yaml", "paper")
    differences: dict[str, set[int]] = {row: set() for row in study.rows}
    evaluations = {(spot.row, spot.column): cell for spot, cell in study._evaluations}
    for (row, column), cell in evaluations.items():
        if cell.config["model"]["init_args"].get("train", "head") != "head":  # heads are the same in all rows
            differences[row].add(trained_by(cell) - trained_by(evaluations[study.baseline, column]))
    for row, found in differences.items():
        note = study.rows[row].note
        assert len(found) <= 1, f"{row} differs by {found} from column to column"
        difference = next(iter(found), 0)
        if difference == 0:
            assert "downstream" not in note, f"{row} trains as many, but says: {note}"
        else:
            said = f"{abs(difference) / 1e6:.2f} M {'fewer' if difference < 0 else 'more'} parameters"
            assert said in note, f"{row} trains {said} downstream, and says: {note!r}"


@pytest.mark.parametrize(
    "kind", [*KINDS, UniAdapter(rank=16), LoRA(rank=16, targets=("q", "k", "v", "proj", "fc1", "fc2"))], ids=str
)
@pytest.mark.parametrize("train", ["everything", "head+adapters"])
def test_an_adapter_that_starts_as_the_identity_trains_as_many_as_one_from_pre_training(
    kind: Adapter, train: str
) -> None:
    settings = {"decoder": {"class_path": "SemanticFPN"}, "train": train}
    own = {"class_path": type(kind).__name__, "init_args": {key: getattr(kind, key) for key in vars(kind)}}
    assert trained({**settings, "adapter": own}, None) == trained(settings, kind)


def test_the_frozen_row_on_ade20k_trains_as_many_as_glares() -> None:
    settings = read(ROOT / "experiments/segment/ade20k/semantic_fpn.yaml")["model"]["init_args"]
    assert trained(settings, None) == trained(settings, UniAdapter()) == 28_429_206
