"""The shared arguments: one definition, which every data module takes on the command line and in Python."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from datamodules.arguments import DataArguments
from datamodules.folder import FolderDataModule
from datamodules.reading.stretching import Stretch
from datamodules.scenes import ScenesDataModule
from src.config.suggestions import accepted_arguments
from src.core.errors import UserError
from tests.datamodules.pictures import labelled_folder

MODULES = [
    "datamodules.folder.FolderDataModule",
    "datamodules.folder.class_folders.ClassFolders",
    "datamodules.folder.class_folders.SceneClasses",
    "datamodules.scenes.ScenesDataModule",
    "datamodules.camvid.CamVidDataModule",
    "datamodules.cityscapes.CityscapesDataModule",
    "datamodules.loveda.LoveDADataModule",
    "datamodules.ade20k.ADE20KDataModule",
    "datamodules.pascal_context.PascalContextDataModule",
    "datamodules.cwfid.CWFIDDataModule",
]
OTHERS: dict[str, tuple[str, Any]] = {  # a value that is not the default, as text and as an object
    "task": ("segment", "segment"),
    "batch_size": ("3", 3),
    "size": ("[8, 16]", (8, 16)),
    "global_crops_scale": ("[0.1, 0.5]", (0.1, 0.5)),
    "local_views": ("2", 2),
    "local_size": ("32", 32),
    "evaluate_on": ("holdout", "holdout"),
    "label_fraction": ("0.5", 0.5),
    "extra": ("[a, b]", [Path("a"), Path("b")]),
    "on_error": ("skip", "skip"),
    "evaluation": ("native", "native"),
    "predict_on": ("a", Path("a")),
    "num_workers": ("0", 0),
    "prefetch_factor": ("4", 4),
    "scaled_decoding": ("true", True),
    "copies": ("a", Path("a")),
    "colours": ("device", "device"),
    "seed": ("7", 7),
    "cache": ("false", False),
    "max_images": ("5", 5),
    "percentiles": ("[1, 99]", (1, 99)),
}


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(LightningDataModule, "data", required=True)
    return made


@pytest.mark.parametrize("class_path", MODULES)
@pytest.mark.parametrize("prefix", ["--data.init_args.", "--data."])
def test_every_module_takes_all_of_them_on_the_command_line(class_path: str, prefix: str) -> None:
    given = [f"{prefix}{name}={text}" for name, (text, _) in OTHERS.items()]
    root = [] if "cene" in class_path else [f"{prefix}root=x"]
    config = parser().parse_args([f"--data={class_path}", *root, *given])
    assert "dict_kwargs" not in config.data
    data = parser().instantiate_classes(config).data
    assert {name: getattr(data, name) for name in OTHERS} == {name: value for name, (_, value) in OTHERS.items()}
    assert data.stretch == Stretch(percentiles=(1, 99))


def test_the_values_above_leave_none_out() -> None:
    assert {field.name for field in fields(DataArguments)} == {*OTHERS, "transforms", "range"}


@pytest.mark.parametrize("class_path", MODULES)
def test_help_and_suggestions_know_them(class_path: str) -> None:
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        parser().parse_args([f"--data.help={class_path}"])
    names = {field.name for field in fields(DataArguments)}
    assert [name for name in sorted(names) if f"--data.{name} " not in text.getvalue()] == []
    assert "a fixed draw that" in " ".join(text.getvalue().split())  # of the description of max_images
    assert names <= (accepted_arguments(class_path) or set())


def test_a_misspelt_one_is_refused() -> None:
    with pytest.raises(Exception, match="max_image"):
        parser().parse_args(["--data=datamodules.folder.FolderDataModule", "--data.root=x", "--data.max_image=3"])
    with pytest.raises(TypeError, match="max_image"):
        FolderDataModule(Path("x"), max_image=3)


def test_python_calls_stay_as_they_are(tmp_path: Path) -> None:
    data = FolderDataModule(labelled_folder(tmp_path), class_names=["a", "b", "c"], task="segment", size=8)
    assert data.source("val").pair(0)[1].shape == (24, 32)


@pytest.mark.parametrize("kind", [FolderDataModule, ScenesDataModule])
def test_max_images_works_for_every_module(tmp_path: Path, kind: Any) -> None:
    own = (labelled_folder(tmp_path),) if kind is FolderDataModule else (10, 3, 32)
    assert len(kind(*own, size=8, max_images=4).source("train")) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size and local_size: expected pixels, found 0"),
        ({"num_workers": -1}, "expected 0 or more, found -1"),
        ({"num_workers": 10**30}, "num_workers: expected at most 512 processes"),
        ({"percentiles": (99, 1)}, "percentiles: expected low < high"),
        ({"range": (5, 5)}, "range: expected low < high"),
        ({"range": (0, float("nan"))}, "range: expected low < high"),
        ({"range": (0, 1), "percentiles": (1, 99)}, "expected one of them, found both"),
    ],
)
def test_mistakes_are_found_before_a_folder_is_read(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FolderDataModule(Path("gone"), **values)
