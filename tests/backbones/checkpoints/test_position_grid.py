"""A position table that is no square gives timm's own features, or is asked for; it is never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.backbones.checkpoints import build_trunk, load_weights, read_weights
from src.backbones.checkpoints.position_grid import sincos_grid
from src.backbones.identity import identity
from src.commands.doctor import main
from src.core.errors import CommandLineError, UserError

MODEL, PATCH, WIDTH = "test_vit", 16, 64


def wide(height: int, width: int, table: Tensor | None = None) -> Any:
    """timm's model of that many patches, with a table for it."""
    torch.manual_seed(0)
    model = timm.create_model(MODEL, num_classes=0, img_size=(height * PATCH, width * PATCH)).eval()
    with torch.no_grad():
        model.pos_embed[0, 1:] = torch.randn(height * width, WIDTH) if table is None else table
    return model


def sine_cosine(height: int, width: int) -> Tensor:
    quarter = WIDTH // 4
    frequency = 10000.0 ** (-torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    angles = [torch.outer(axis.flatten(), frequency) for axis in (columns, rows)]
    return torch.cat([function(angle) for angle in angles for function in (torch.sin, torch.cos)], dim=1)


def learnt(height: int, width: int) -> Tensor:
    """Smooth and random, as training leaves a table."""
    coarse = torch.randn(1, WIDTH, 3, 3, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (height, width), mode="bicubic").flatten(2)[0].T


def saved(model: nn.Module, folder: Path) -> str:
    torch.save(model.state_dict(), folder / "wide.pth")
    return str(folder / "wide.pth")


@pytest.mark.parametrize("grid", [(9, 16), (16, 9), (10, 20), (2, 8), (5, 5)])
@pytest.mark.parametrize("original", [False, True])
def test_a_stated_grid_gives_timms_own_features(grid: tuple[int, int], original: bool, tmp_path: Path) -> None:
    model = wide(*grid)
    backbone = Backbone(
        MODEL, saved(model, tmp_path), positions="original" if original else "timm", position_grid=grid
    ).eval()
    images = torch.rand(1, 3, grid[0] * PATCH, grid[1] * PATCH)
    with torch.no_grad():
        expected = model.forward_features(backbone.normalise(images))[:, 1:]
        assert torch.equal(backbone(images).patches, expected)
    assert identity(backbone)["position_grid"] == (None if grid[0] == grid[1] else list(grid))


def test_another_size_is_resampled_from_the_stated_grid(tmp_path: Path) -> None:
    model = timm.create_model(MODEL, num_classes=0, img_size=(144, 256), dynamic_img_size=True).eval()
    trunk: Any = build_trunk(MODEL, saved(model, tmp_path), position_grid=(9, 16)).eval()
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        assert torch.equal(trunk.forward_features(images), model.forward_features(images))


def test_read_weights_resamples_to_the_models_own_grid_as_timm_does(tmp_path: Path) -> None:
    model = wide(9, 16, sine_cosine(9, 16))
    found = read_weights(saved(model, tmp_path), MODEL)["pos_embed"]
    model.set_input_size((160, 160))
    assert torch.equal(found, model.pos_embed)


@pytest.mark.parametrize("grid", [(9, 16), (16, 9), (12, 12), (8, 18), (10, 20)])
def test_a_sine_cosine_table_shows_its_own_grid(grid: tuple[int, int], tmp_path: Path) -> None:
    assert sincos_grid(sine_cosine(*grid), rows_first=False) == grid
    found = load_weights(saved(wide(*grid, sine_cosine(*grid)), tmp_path), MODEL)
    assert found.geometry.grid == (grid[0] if grid[0] == grid[1] else grid)


@pytest.mark.parametrize("grid", [(12, 12), (14, 14), (16, 16), (6, 6)])
def test_a_learnt_square_is_taken_as_before(grid: tuple[int, int], tmp_path: Path) -> None:
    for table in (learnt(*grid), None):
        assert load_weights(saved(wide(*grid, table), tmp_path), MODEL).geometry.grid == grid[0]


@pytest.mark.parametrize("grid", [(9, 16), (16, 9), (8, 18), (18, 32), (10, 20)])
def test_a_learnt_table_of_another_shape_is_asked_for(grid: tuple[int, int], tmp_path: Path) -> None:
    path = saved(wide(*grid, learnt(*grid)), tmp_path)
    with pytest.raises(ValueError, match=rf"position_grid: .*\[{grid[0]}, {grid[1]}\]") as caught:
        load_weights(path, MODEL)
    assert path in str(caught.value) and "--position-grid" in str(caught.value)
    assert load_weights(path, MODEL, position_grid=grid).geometry.grid == grid


@pytest.mark.parametrize(
    "config",
    [
        {"image_size": [144, 256]},
        {"pretrained_cfg": {"input_size": [3, 144, 256]}},
        {"model_args": {"img_size": [144, 256]}},
    ],
)
def test_a_configuration_that_speaks_against_the_square_is_asked_about(config: dict[str, Any], tmp_path: Path) -> None:
    path = saved(wide(9, 16), tmp_path)
    assert load_weights(path, MODEL).geometry.grid == 12  # random values: nothing speaks against it
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"12×12, but config\.json says 9×16"):
        load_weights(path, MODEL)


def test_a_grid_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = saved(wide(9, 16), tmp_path)
    with pytest.raises(ValueError, match=r"position_grid 9×17 is stated, but pos_embed has 145 rows, 144 of them"):
        load_weights(path, MODEL, position_grid=(9, 17))


def test_doctor_takes_the_grid_and_gives_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(wide(10, 20), tmp_path)
    assert main([path, "--model", MODEL]) == 1
    assert "200 of them for patches, which is not a square grid" in capsys.readouterr().out
    assert main([path, "--model", MODEL, "--position-grid", "10x20"]) == 0
    out = capsys.readouterr().out
    assert "position grid 10×20" in out and "        position_grid: [10, 20]\n" in out
    with pytest.raises(CommandLineError, match="such as 9x16, found '10'"):
        main([path, "--position-grid", "10"])


@pytest.mark.parametrize(
    ("options", "key", "values"),
    [
        ({"position_grid": (16, 9)}, "position_grid", "9×16.*16×9"),
        ({"position_grid": (12, 12)}, "position_grid", "9×16.*12×12"),
        ({"position_grid": (9, 16), "positions": "original"}, "positions", "timm.*original"),
    ],
)
def test_an_adapter_belongs_to_the_grid_and_the_resampling_that_it_was_made_with(
    options: dict[str, Any], key: str, values: str, tmp_path: Path
) -> None:
    weights, file = saved(wide(9, 16), tmp_path), tmp_path / "adapter.safetensors"
    backbone = Backbone(MODEL, weights, position_grid=(9, 16))
    backbone.install(UniAdapter(rank=2))
    backbone.save_adapter(file, 1, "teacher")
    Backbone(MODEL, weights, position_grid=(9, 16)).load_adapter(file)
    other = Backbone(MODEL, weights, **options)
    assert other.weight_hash == backbone.weight_hash  # which the table's shape does not change
    with pytest.raises(UserError, match=rf"with {key} {values}"):
        other.load_adapter(file)


def test_an_adapter_belongs_to_its_normalisation(tmp_path: Path) -> None:
    backbone = Backbone(MODEL, "none")
    backbone.install(UniAdapter(rank=2))
    backbone.save_adapter(tmp_path / "a.safetensors", 1, "teacher")
    backbone.uninstall()
    backbone.trunk.pretrained_cfg = {**backbone.trunk.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
    with pytest.raises(UserError, match=r"with mean .*this backbone has \[0.1, 0.2, 0.3\]"):
        backbone.load_adapter(tmp_path / "a.safetensors")
