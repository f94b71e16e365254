"""`src.adapt`: from images in memory or a loader to an adapted backbone, with a tiny ViT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import src
from src.commands.adapt import command
from src.commands.adapt.image_files import images_in, write_images
from src.commands.adapt.settings import Settings
from src.core.errors import UserError

PIXELS = np.random.default_rng(0).integers(256, size=(4, 40, 48, 3), dtype=np.uint8)
TENSORS = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
LABELS = torch.arange(4)
GIVEN: dict[str, Callable[[], Any]] = {
    "arrays": lambda: list(PIXELS),
    "a batch of arrays": lambda: [PIXELS],
    "one tensor of all": lambda: TENSORS,
    "float tensors": lambda: list(TENSORS / 255),
    "PIL images": lambda: [Image.fromarray(image) for image in PIXELS],
    "a generator": lambda: (image for image in PIXELS),
    "image and label": lambda: [(image, 0) for image in TENSORS],
    "mappings": lambda: [{"image": image, "label": 0} for image in TENSORS],
    "a loader": lambda: DataLoader(TENSORS, batch_size=3),  # type: ignore[arg-type]
    "a shuffled loader with labels": lambda: DataLoader(TensorDataset(TENSORS, LABELS), batch_size=3, shuffle=True),
    "lists of PIL images": lambda: [[Image.fromarray(image) for image in PIXELS[:3]], [Image.fromarray(PIXELS[3])]],
}


def written(folder: Path) -> set[bytes]:
    return {np.asarray(Image.open(path)).tobytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_every_kind_of_iterable_gives_the_same_images(given: Callable[[], Any], tmp_path: Path) -> None:
    assert write_images(given(), tmp_path / "images") == tmp_path / "images"
    assert written(tmp_path / "images") == {image.tobytes() for image in PIXELS}
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    write_images(list(PIXELS[::-1]), tmp_path / "images")  # in another order: the same files
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "found a int"),
        ([], "found an empty iterable"),
        ([{"pixels": PIXELS[0]}], "one of image, images, pixel_values, found the keys pixels"),
        ([TENSORS[0] / 255 * 4 - 2], "image 0: .* normalises"),
        ([object()], "image 0: expected a path, a PIL image"),
    ],
)
def test_what_is_no_image_is_said(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_images(given, tmp_path / "images")


def test_other_images_do_not_mix_with_what_is_there(tmp_path: Path) -> None:
    write_images(list(PIXELS), tmp_path)
    with pytest.raises(UserError, match="holds 1 images that were not given this time"):
        write_images(list(PIXELS[:3]), tmp_path)


def test_a_batch_is_taken_apart_and_an_image_is_not() -> None:
    assert len(list(images_in(TENSORS))) == 4
    assert [image.shape for image in images_in(TENSORS[0])] == [(3, 40, 48)]


def test_three_lines_adapt_quietly_and_again_give_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "test_vit.pth"
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    monkeypatch.setattr(command, "choose", lambda *_: Settings("glare-calibrated", 2, 4, 32, 16, 1e-2, "32-true"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)  # torch warns of processes beyond cores
    loader = DataLoader(TENSORS, batch_size=3)  # type: ignore[arg-type]
    made = {"out": tmp_path / "out", "backbone": "test_vit", "weights": str(weights)}
    capfd.readouterr()
    backbone = src.adapt(loader, **made)
    said = capfd.readouterr()
    assert said.out == ""
    assert [str(each.message) for each in recwarn if each.category is UserWarning] == []
    assert "step" not in said.err and "GPU" not in said.err and "Trainable params" not in said.err
    assert "4 images used" in (tmp_path / "out" / "adapt.log").read_text()
    assert "4 unlabelled images" in (tmp_path / "out" / "README.md").read_text()
    image = PIXELS[0]
    adapted = backbone.dense(image)
    with backbone.adapters_off():
        assert not torch.equal(backbone.dense(image), adapted)
    assert torch.equal(src.adapt(loader, **made).dense(image), adapted)
    with pytest.raises(UserError, match="other settings"):
        src.adapt(loader, **made, seed=1)


def test_pretraining_says_what_it_wants_instead_of_a_batch_of_images() -> None:
    from datamodules.views import check_crops

    with pytest.raises(UserError, match=r"batches of datamodules\.views\.Crops, found a Tensor; .*src\.adapt\(loader"):
        check_crops(TENSORS)
