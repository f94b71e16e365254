"""Complete configurations with the defaults of their classes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from src.config.defaults import TRAINER_DEFAULTS, completed, defaults, find_class

CLASSES = [
    "src.pretraining.ContinualPretraining",
    "src.segmentation.SemanticSegmentation",
    "src.probes.dense_knn.NearestNeighbours",
    "src.backbones.Backbone",
    "src.backbones.adapters.UniAdapter",
    "src.pretraining.projection_head.ProjectionHead",
    "src.pretraining.consistency.LocalConsistency",
    "datamodules.camvid.CamVidDataModule",
    "datamodules.scenes.ScenesDataModule",
    "datamodules.folder.FolderDataModule",
]
SIZE = 7


class Part(nn.Module):
    def __init__(self, size: int = SIZE, share: float = 0.5) -> None:
        super().__init__()
        self.doubled = 2 * size
        self.share = share


@dataclasses.dataclass
class Settings:
    rates: tuple[float, ...] = (1.0, 2.0)
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])


class Base(nn.Module):
    def __init__(self, below: int = 1, size: int = 2) -> None: ...


PART, OTHER, SETTINGS = Part(), Part(3), Settings()


class Whole(Base):
    def __init__(
        self,
        required: int,
        part: Part = PART,
        other: Part = OTHER,
        settings: Settings = SETTINGS,
        make: Callable[..., Part] = Part,
        function: Any = len,
        size: int = 4,
        **options: Any,
    ) -> None: ...


@pytest.mark.parametrize("class_path", CLASSES)
def test_names_are_those_of_the_signature(class_path: str) -> None:
    module, _, name = class_path.rpartition(".")
    assert set(defaults(class_path)) == with_default(getattr(import_module(module), name))
    json.dumps(defaults(class_path))


def with_default(kind: type) -> set[str]:
    """Names of the arguments with a default; `**shared` stand for those of the bases."""
    parameters = inspect.signature(kind).parameters.values()
    named = {item.name for item in parameters if item.default is not item.empty}
    if any(item.kind is item.VAR_KEYWORD for item in parameters):
        for base in kind.__bases__:
            named |= with_default(base)
    return named


def test_defaults_are_values_whatever_their_spelling() -> None:
    part = {"class_path": f"{__name__}.Part", "init_args": {"size": 7, "share": 0.5}}
    other = {"class_path": f"{__name__}.Part", "init_args": {"doubled": 6, "share": 0.5, "training": True}}
    settings = {"class_path": f"{__name__}.Settings", "init_args": {"rates": [1.0, 2.0], "names": ["a"]}}
    assert defaults(f"{__name__}.Whole") == {
        "part": part,
        "other": other,
        "settings": settings,
        "make": part,
        "function": "builtins.len",
        "size": 4,
        "below": 1,
    }


def test_what_the_yaml_says_stays_and_the_rest_is_filled_in_at_any_depth() -> None:
    backbone = {"class_path": "src.backbones.Backbone", "init_args": {"weights": "none"}}
    found = completed({"a": [{"b": backbone}], "c": {"class_path": "os.system", "init_args": {"x": 1}}})
    assert found["a"][0]["b"]["init_args"]["weights"] == "none"
    assert found["a"][0]["b"]["init_args"]["name"] == "vit_small_patch14_dinov2"
    assert found["c"] == {"class_path": "os.system", "init_args": {"x": 1}}
    assert found["trainer"]["deterministic"] == TRAINER_DEFAULTS["deterministic"]
    assert found["guards"]["patience"] == 2


def test_a_completed_configuration_may_be_changed_without_changing_the_next() -> None:
    config = {"model": {"class_path": "src.pretraining.ContinualPretraining"}}
    first = completed(config)["model"]["init_args"]["acceleration"]["init_args"]
    first["checkpoint_blocks"] = not first["checkpoint_blocks"]
    assert completed(config)["model"]["init_args"]["acceleration"]["init_args"] != first


def test_fields_that_a_yaml_does_not_name_keep_their_defaults() -> None:
    model = {"class_path": "src.pretraining.ContinualPretraining", "init_args": {"optimisation": {"lr": 1}}}
    found = completed({"model": model})["model"]["init_args"]["optimisation"]["init_args"]
    assert (found["lr"], found["clip"]) == (1.0, 3.0)
    assert isinstance(found["lr"], float)


@pytest.mark.parametrize("spelling", ["src.backbones.adapters.LoRA", "src.backbones.adapters.low_rank.LoRA"])
@pytest.mark.parametrize("form", [lambda path: {"class_path": path}, lambda path: path])
def test_each_class_has_one_spelling(spelling: str, form: Callable[[str], Any]) -> None:
    model = {"class_path": "src.pretraining.ContinualPretraining", "init_args": {"adapter": form(spelling)}}
    found = completed({"model": model})["model"]["init_args"]["adapter"]
    assert found["class_path"] == "src.backbones.adapters.low_rank.LoRA"
    assert found["init_args"] == defaults("src.backbones.adapters.LoRA")


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"src\.pretraining has no class Continual"):
        defaults("src.pretraining.Continual")
    with pytest.raises(ValueError, match=r"no module src\.pretrain"):
        defaults("src.pretrain.ContinualPretraining")


def test_code_that_a_run_would_not_import_is_not_imported() -> None:
    assert find_class("os.system") is None
    assert find_class("antigravity.Fly") is None
    assert "antigravity" not in sys.modules
    assert find_class("no_such_package.Thing") is None
    module = ModuleType("of_a_user")
    module.Mine = type("Mine", (nn.Module,), {})  # type: ignore[attr-defined]
    sys.modules["of_a_user"] = module
    try:
        assert find_class("of_a_user.Mine") is module.Mine
    finally:
        del sys.modules["of_a_user"]
