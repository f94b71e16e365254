"""Images read no larger than views need: JPEGs decoded at a fraction, copies on a disk made once and again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.reading import reduction
from datamodules.reading.images import read_image
from datamodules.reading.reduction import Reduction, shrink
from datamodules.reading.sources import Cached, Files
from datamodules.reading.stretching import WHOLE_RANGE, Stretch
from datamodules.scenes import ScenesDataModule
from src.config.hashing import config_hash
from src.core.errors import UserError
from tests.datamodules.pictures import gradient, save


def photograph(path: Path, height: int = 240, width: int = 320, **options: object) -> Path:
    Image.fromarray(gradient(height, width)).save(path, quality=95, **options)
    return path


@pytest.mark.parametrize(
    ("least", "size"), [(240, (240, 320)), (121, (240, 320)), (120, (120, 160)), (31, (60, 80)), (3, (30, 40))]
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(
    least: int, size: tuple[int, int], tmp_path: Path
) -> None:
    path = photograph(tmp_path / "a.jpg")
    found = read_image(path, least=least)
    assert found.shape == (*size, 3)
    whole = np.asarray(Image.fromarray(read_image(path)).resize(size[::-1], Image.Resampling.BOX))
    assert np.abs(found.astype(int) - whole).max() <= 4


def test_other_formats_and_turned_photographs_come_as_they_should(tmp_path: Path) -> None:
    png = save(tmp_path / "a.png", gradient(240, 320))
    np.testing.assert_array_equal(read_image(png, least=30), read_image(png))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(tmp_path / "b.jpg", exif=exif)
    assert read_image(turned).shape == (320, 240, 3) and read_image(turned, least=100).shape == (160, 120, 3)
    Image.fromarray(gradient(240, 320)).convert("L").save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg", least=100).shape == (120, 160, 3)
    Image.fromarray(gradient(240, 320)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg", least=100).shape == (240, 320, 3)


def test_a_copy_is_the_image_that_memory_would_hold_and_is_read_without_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient(100, 300))
    kept = Cached(Files(tmp_path, [path]), side=50).image(0)
    files = Files(tmp_path, [path], reduction=Reduction(50, copies=tmp_path / "copies"))
    for _ in range(2):
        np.testing.assert_array_equal(files.image(0), kept)
    assert len(list((tmp_path / "copies").rglob("*.npy"))) == 1
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)  # another file of the same size and time: only the copy is read
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    np.testing.assert_array_equal(files.image(0), kept)


def test_a_changed_file_another_stretch_and_a_damaged_copy_are_made_again(tmp_path: Path) -> None:
    path, folder = save(tmp_path / "a.png", gradient(100, 300)), tmp_path / "copies"
    read = Reduction(50, copies=folder).read
    first = read(path, WHOLE_RANGE)
    read(path, Stretch(None, (0.0, 100.0)))
    assert len(list(folder.rglob("*.npy"))) == 2
    for copy in folder.rglob("*.npy"):
        copy.write_bytes(copy.read_bytes()[:100])
    np.testing.assert_array_equal(read(path, WHOLE_RANGE), first)
    save(path, 255 - gradient(120, 300))
    np.testing.assert_array_equal(read(path, WHOLE_RANGE), shrink(255 - gradient(120, 300), 50))


def test_a_copy_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, image: object) -> None:
        file.write(b"\x93NUMPY")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reduction.np, "save", full)
    path = save(tmp_path / "a.png", gradient(100, 300))
    with pytest.raises(OSError, match="space"):
        Reduction(50, copies=tmp_path / "copies").read(path, WHOLE_RANGE)
    assert not list((tmp_path / "copies").rglob("*.npy"))


def test_only_pre_training_reads_reduced_images(tmp_path: Path) -> None:
    path = photograph(tmp_path / "a.jpg")
    for task, expected in (("pretrain", (120, 160, 3)), ("segment", (240, 320, 3))):
        data = ScenesDataModule(2, 2, task=task, size=48, scaled_decoding=True)
        assert data.files(tmp_path, [path]).image(0).shape == expected
        assert data.files(tmp_path, [path]).pair(0)[0].shape == (240, 320, 3)
    assert ScenesDataModule(2, 2, size=48).files(tmp_path, [path]).image(0).shape == (240, 320, 3)


def test_loaders_make_as_many_batches_ahead_as_they_are_told() -> None:
    data = ScenesDataModule(4, 2, size=32, batch_size=2, num_workers=1, prefetch_factor=5)
    assert data._loader([1], 1, None, None).prefetch_factor == 5
    with pytest.raises(UserError, match="prefetch_factor: expected at least 1"):
        ScenesDataModule(4, 2, prefetch_factor=0)


def test_where_copies_lie_does_not_change_the_hash_of_a_run(tmp_path: Path) -> None:
    def hashed(copies: str | None) -> str:
        data = {"class_path": "datamodules.scenes.ScenesDataModule", "init_args": {"copies": copies}}
        return config_hash({"trainer": {}, "data": data})

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.npy").touch()
    assert hashed(str(tmp_path)) == hashed(str(tmp_path / "full")) == hashed("absent/folder") != hashed(None)
