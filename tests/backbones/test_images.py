"""Images that the backbone would misread are refused; files, PIL images and arrays become tensors that it takes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from datamodules.reading.images import read_image
from src.backbones.adapters import BitFit, LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.errors import MissingFile, UserError
from src.pretraining import ContinualPretraining
from tests.backbones.test_adapters import move
from tests.tiny import random_crops, tiny_backbone, tiny_head

UNIT = torch.linspace(0, 1, 3 * 32 * 48).view(1, 3, 32, 48)
NORMALISED = (UNIT - 0.45) / 0.225


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    return tiny_backbone(monkeypatch).eval()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (255 * UNIT, "divide by 255"),
        (255 * UNIT.bfloat16(), "divide by 255"),
        (NORMALISED, "which look normalised"),
        (2 * UNIT - 1, "which look normalised"),
        (UNIT.clone().index_fill_(3, torch.tensor([3]), float("nan")), "NaN"),
        ((60_000 * UNIT).int(), r"\[0, 255\]"),
        (UNIT > 0.5, "torch.bool"),
        (UNIT[:, :1], "repeat the grey channel"),
        (UNIT.expand(2, 3, 32, 48).flatten(0, 1)[None, :4], "drop alpha"),
        (UNIT.permute(0, 2, 3, 1), "move the channels to the front"),
        (UNIT[0], r"without a batch axis; pass images\[None\]"),
        (UNIT[0, 0], r"found \[32, 48\]"),
        (UNIT.numpy(), r"ndarray \[1, 3, 32, 48\].*backbone\.transform\(\)"),
        (Image.new("RGB", (32, 32)), r"found a Image.*backbone\.dense\(image\)"),
        ([UNIT[0]], "found a list"),
        (UNIT[..., :47], "32×47 px.*32×48"),
        (UNIT[..., :0], "multiples"),
        (UNIT[:0], r"found \[0, 3, 32, 48\], a batch without images"),
    ],
)
def test_images_that_would_be_misread_are_refused(images: object, message: str, backbone: Backbone) -> None:
    for _ in range(2):  # a refused batch does not count as the first
        with pytest.raises(UserError, match=message):
            backbone(images)
        with pytest.raises(UserError, match=message):
            backbone.feature_maps(images, [0])
        with pytest.raises(UserError, match=message):
            backbone.forward_intermediates(images)


@pytest.mark.parametrize("images", [UNIT, UNIT.half(), 1.1 * UNIT - 0.05, (255 * UNIT).byte(), (255 * UNIT).long()])
def test_images_as_they_should_be_pass(images: torch.Tensor, backbone: Backbone) -> None:
    assert backbone(images).patches.isfinite().all() and not backbone.checks_range


class Reads(TorchDispatchMode):
    """Counts what makes Python wait for a value of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads(backbone: Backbone, images: torch.Tensor) -> int:
    with Reads() as mode, torch.no_grad():
        backbone(images)
    return mode.count


def test_values_are_read_in_the_first_batch_alone_and_never_in_training(backbone: Backbone) -> None:
    assert reads(backbone.train(), UNIT) == 0
    backbone.eval()
    assert reads(backbone, (255 * UNIT).byte()) == 0
    backbone.checks_range = True
    assert reads(backbone, UNIT) > 0
    assert reads(backbone, UNIT) == 0


def test_no_value_of_an_image_is_read_in_a_training_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ContinualPretraining(tiny_backbone(monkeypatch), UniAdapter(rank=2), tiny_head())
    looked: list[torch.Tensor] = []
    monkeypatch.setattr("src.backbones.backbone.check_range", looked.append)
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader([random_crops(2, seed=i) for i in range(2)], batch_size=None))
    assert looked == []
    module.teacher.network.backbone.checks_range = True
    module.teacher.network.backbone(UNIT)
    assert len(looked) == 1


@pytest.mark.parametrize("kind", [None, UniAdapter(rank=4), LoRA(rank=2), BitFit()], ids=str)
def test_checks_break_no_graph_and_no_trace(kind: object, backbone: Backbone) -> None:
    if kind is not None:
        backbone.install(kind)
        move(backbone)
    images = UNIT.expand(2, -1, -1, -1)
    expected = backbone(images).patches, backbone.feature_maps(images, [0])[0]
    backbone.checks_range = True
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: (backbone(x).patches, backbone.feature_maps(x, [0])[0]), backend="eager", fullgraph=True
    )
    for found, wanted in zip(compiled(images), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert backbone.checks_range  # no value was looked at


def test_tracing_and_export_look_at_no_value(backbone: Backbone) -> None:
    class Patches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.backbone(images).patches

    wanted = backbone(UNIT).patches
    backbone.checks_range = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants, which a trace is for
        traced = torch.jit.trace(Patches(), UNIT, check_trace=False)
    exported = torch.export.export(Patches(), (UNIT,)).module()
    assert backbone.checks_range
    for found in (traced(UNIT), exported(UNIT)):
        assert torch.allclose(found, wanted, atol=1e-5)


# ------------------------------------------------------------------------------------------------ transform and dense


PIXELS = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)


def test_file_pil_array_and_tensor_give_the_same_tensor(backbone: Backbone, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.png")
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    transform = backbone.transform()
    found = [transform(one) for one in (tmp_path / "a.png", str(tmp_path / "a.png"), image, PIXELS, tensor)]
    found += [transform(tensor / 255), transform(PIXELS.astype(np.float32) / 255)]
    for one in found:
        assert one.shape == (3, 32, 64)  # Python rounds 2.5 patches to 2
        assert one.dtype == torch.float32 and one.min() >= 0 and one.max() <= 1
        assert torch.allclose(one, found[0], atol=1e-6)
    backbone(found[0][None])


def test_sizes_become_multiples_of_the_patch_and_fitting_images_keep_their_pixels(backbone: Backbone) -> None:
    fitting = PIXELS[:32, :48]
    assert torch.equal(backbone.transform()(fitting), torch.from_numpy(fitting).permute(2, 0, 1) / 255)
    assert backbone.transform(64)(PIXELS).shape == (3, 64, 96)
    assert backbone.transform((70, 33))(PIXELS).shape == (3, 64, 32)
    assert backbone.transform(1)(PIXELS).shape == (3, 16, 16)
    for size in (0, -3, (32, 0), (1, 2, 3)):
        with pytest.raises(UserError, match="expected a size in pixels"):
            backbone.transform(size)


def test_grey_is_repeated_alpha_dropped_and_orientation_applied(backbone: Backbone, tmp_path: Path) -> None:
    transform, grey = backbone.transform(), PIXELS[:32, :48, 0]
    wanted = torch.from_numpy(grey).expand(3, 32, 48) / 255
    for one in (grey, grey[..., None], Image.fromarray(grey), torch.from_numpy(grey)[None]):
        assert torch.equal(transform(one), wanted)
    with_alpha = np.dstack((PIXELS[:32, :48], grey))
    assert torch.equal(transform(with_alpha), transform(PIXELS[:32, :48]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(PIXELS[:32, :48]).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(transform(tmp_path / "turned.png"), transform(np.rot90(PIXELS[:32, :48], -1)))


def test_images_that_are_none_are_refused_by_name(backbone: Backbone, tmp_path: Path) -> None:
    transform = backbone.transform()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(MissingFile, match=r"none\.png not found"):
        transform(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"text\.png: expected an image, found a file that"):
        transform(tmp_path / "text.png")
    for image, message in (
        (Image.fromarray(PIXELS[..., 0].astype(np.uint16)), "8 bits a channel"),
        (PIXELS.astype(np.uint16) * 200, r"\[0, 255\]"),
        (PIXELS.astype(">f4"), "divide by 255"),
        (torch.from_numpy(PIXELS), r"expected a tensor \[3, H, W\], found \[40, 60, 3\]"),
        (PIXELS[None], r"found \[1, 40, 60, 3\]"),
        (np.array(["a"]), "array of <U1"),
        (7, "found a int"),
    ):
        with pytest.raises(UserError, match=message):
            transform(image)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_files_of_16_bits_are_stretched_as_in_training(tmp_path: Path, backbone: Backbone, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(PIXELS[:32, :48, 0].astype(np.uint16) * 13 + 500).save(path)
    expected = torch.from_numpy(read_image(path)).permute(2, 0, 1) / 255
    assert torch.equal(backbone.transform()(path), expected)
    assert expected.min() == 0 and expected.max() == 1


def test_dense_is_the_feature_map_of_one_image(backbone: Backbone) -> None:
    found = backbone.dense(PIXELS, size=32)
    (wanted,) = backbone.feature_maps(backbone.transform(32)(PIXELS)[None])
    assert found.shape == (backbone.width, 2, 3) and not found.requires_grad
    assert torch.equal(found, wanted[0])
    assert backbone.dense(Image.fromarray(PIXELS)).shape[0] == backbone.width


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_training_turns_them(
    tmp_path: Path, backbone: Backbone, compression: str | None, mode: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(PIXELS[:32, :48]).convert(mode)
    image.save(tmp_path / "x.tif", exif=exif, **({"compression": compression} if compression else {}))
    expected = torch.from_numpy(read_image(tmp_path / "x.tif")).permute(2, 0, 1) / 255
    assert torch.equal(backbone.transform()(tmp_path / "x.tif"), expected)
