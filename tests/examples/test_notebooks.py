"""The notebooks of examples/notebooks: stored without outputs, and run from top to bottom at small size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
import timm
import torch
from nbclient import NotebookClient

from src.core.import_path import for_children
from tests.command_line import ROOT

FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
# In place of the cell tagged `parameters`; {settings} put a tiny ViT in and take two steps.
SMALL = {
    "adapt-to-your-own-photos": 'photos = None\nout = "runs/photos"\ncount = 4\nsettings = {settings}',
    "did-it-help": 'images, masks = None, None\nout = "runs/help"\ncount, labelled = 6, 4\nsettings = {settings}',
}


def test_there_are_two() -> None:
    assert NOTEBOOKS.keys() == SMALL.keys()


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_it_is_stored_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None), cell.source


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.pth")
    settings = {"max_steps": 2, "backbone": "test_vit", "weights": str(tmp_path / "vit.pth")}
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    (parameters,) = tagged(notebook, "parameters")
    parameters.source = SMALL[name].format(settings=settings)
    monkeypatch.setenv("PYTHONPATH", for_children({})["PYTHONPATH"])
    NotebookClient(notebook, timeout=1500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    (adapting,) = [cell for cell in notebook.cells if "src.adapt(" in cell.source and cell.cell_type == "code"]
    assert adapting.outputs == [], "src.adapt should say nothing in a notebook"
    (said,) = tagged(notebook, "log" if name.startswith("adapt") else "verdict")
    run = tmp_path / "runs" / ("photos" if name.startswith("adapt") else "help")
    outcome = json.loads((run / "verdict.json").read_text())
    assert outcome["sentence"] in said.outputs[0].text
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert len(pictures) >= 2


def tagged(notebook: Any, tag: str) -> list[Any]:
    """The cells with a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
