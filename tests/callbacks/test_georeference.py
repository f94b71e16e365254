"""Masks of GeoTIFFs lie where their images lie."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from src.callbacks import georeference as module
from src.callbacks.georeference import georeference, write_geotiff
from tests.callbacks.test_predictions import predict
from tests.datamodules.pictures import gradient, save

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")
TRANSFORM = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 4_000_000)


def geotiff(path: Path, dtype: str = "uint16", bands: int = 3) -> Path:
    pixels = (gradient(24, 40).transpose(2, 0, 1)[:bands].astype(dtype)) * (200 if dtype == "uint16" else 1)
    colour = {"photometric": "RGB"} if bands == 3 else {}
    layout = {"driver": "GTiff", "height": 24, "width": 40, "count": bands, "dtype": dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=TRANSFORM, **layout, **colour) as file:
        file.write(pixels)
    return path


def test_prediction_keeps_the_georeference_of_deep_and_plain_files(tmp_path: Path) -> None:
    geotiff(tmp_path / "images/deep.tif")
    geotiff(tmp_path / "images/nested/plain.tiff", "uint8", 1)
    save(tmp_path / "images/none.tif", gradient(16, 16))
    assert predict(tmp_path, tmp_path / "images") == 0
    masks = tmp_path / "run/predictions/masks"
    assert {path.relative_to(masks).as_posix() for path in masks.rglob("*.*")} == {
        "deep.tif",
        "nested/plain.tif",
        "none.png",
    }
    for name in ("deep", "nested/plain"):
        with rasterio.open(masks / f"{name}.tif") as file:
            assert (file.crs.to_epsg(), file.transform, file.shape) == (32633, TRANSFORM, (24, 40))
            assert file.count == 1 and set(np.unique(file.read(1))) <= {1, 3, 4}


def test_a_mask_from_before_rasterio_was_installed_does_not_stay_beside_the_new_one(tmp_path: Path) -> None:
    geotiff(tmp_path / "images/a.tif")
    masks, overwrite = tmp_path / "run/predictions/masks", ["--predictions.existing", "overwrite"]
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="rasterio is not installed"):
        patch.setattr(module, "find_spec", lambda name: None)
        assert predict(tmp_path, tmp_path / "images") == 0
    assert [path.name for path in masks.iterdir()] == ["a.png"]
    assert predict(tmp_path, tmp_path / "images", *overwrite) == 0
    assert [path.name for path in masks.iterdir()] == ["a.tif"]


def test_ids_colours_and_control_points_are_written(tmp_path: Path) -> None:
    points = [
        rasterio.control.GroundControlPoint(row=r, col=c, x=c * 2.0, y=r * 3.0) for r, c in ((0, 0), (9, 0), (0, 9))
    ]
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    place = module.Georeference(None, rasterio.Affine.identity(), (points, rasterio.CRS.from_epsg(4326)))
    write_geotiff(tmp_path / "m.tif", ids, place, {7: (10, 20, 30)})
    with rasterio.open(tmp_path / "m.tif") as file:
        np.testing.assert_array_equal(file.read(1), ids)
        assert file.colormap(1)[7][:3] == (10, 20, 30)
        assert [(p.x, p.y) for p in file.gcps[0]] == [(0, 0), (0, 27), (18, 0)] and file.gcps[1].to_epsg() == 4326


def test_a_world_file_and_control_points_are_georeferences_too(tmp_path: Path) -> None:
    save(tmp_path / "world.tif", gradient(24, 40))
    (tmp_path / "world.tfw").write_text("0.3\n0\n0\n-0.3\n500000.15\n3999999.85\n")
    place = georeference(tmp_path / "world.tif", (24, 40))
    assert place is not None and place.transform.almost_equals(TRANSFORM, 1e-6) and place.crs is None
    with rasterio.open(save(tmp_path / "points.tif", gradient(24, 40)), "r+") as file:
        corners = ((0, 0, 1.0, 2.0), (0, 40, 9.0, 2.0), (24, 0, 1.0, 7.0))
        points = [rasterio.control.GroundControlPoint(*corner) for corner in corners]
        file.gcps = points, rasterio.CRS.from_epsg(4326)
    place = georeference(tmp_path / "points.tif", (24, 40))
    assert place is not None and [(p.x, p.y) for p in place.gcps[0]] == [corner[2:] for corner in corners]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert georeference(save(tmp_path / "none.tif", gradient(24, 40)), (40, 24)) is None


def test_a_turned_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tif: expected a mask of 40×24, found 24×40; an EXIF"):
        georeference(geotiff(tmp_path / "a.tif"), (40, 24))


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    save(tmp_path / "world.tif", gradient(24, 40))
    (tmp_path / "world.tfw").write_text("0.3\n0\n0\n-0.3\n500000.15\n3999999.85\n")
    for image in (geotiff(tmp_path / "a.tif"), tmp_path / "world.tif"):
        with pytest.warns(UserWarning, match=r"glare-lightning\[geo\]"):
            assert georeference(image, (24, 40)) is None
