"""timm and Hugging Face folders: plain models with the adapter in their weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from src.backbones.adapters import SLR, Adapter, AdaptFormer, BitFit, LoRA, UniAdapter
from src.backbones.backbone import Backbone, load_backbone
from src.backbones.export import to_hugging_face, to_timm
from src.core.errors import UserError
from tests.backbones.export.adapted import adapted, apart, images_of, tokens

MERGING: list[Adapter | None] = [None, LoRA(rank=2), SLR(rank=2), BitFit()]
MODELS = ["tiny_vit", "tiny_dinov2", "tiny_reg4_dinov2", "tiny_dinov3", "tiny_giant_dinov2"]


@pytest.mark.parametrize("kind", MERGING, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_timm_loads_the_adapted_features(name: str, kind: Adapter | None, tmp_path: Path) -> None:
    backbone = adapted(name, kind)
    path = to_timm(backbone, tmp_path / "out")
    options = {"checkpoint_path": str(path), "num_classes": 0, "dynamic_img_size": True}
    model = timm.create_model(name, **options).eval()
    for rows, columns in ((4, 4), (3, 5)):
        images = images_of(backbone, rows, columns)
        with torch.no_grad():
            found = model.forward_features(backbone.normalise(images))
        assert apart(found, tokens(backbone, images)) < 1e-5
    again = load_backbone(name, weights=str(path))
    assert apart(tokens(again, images), tokens(backbone, images)) < 1e-5


def test_timms_configuration_builds_the_model_by_itself(tmp_path: Path) -> None:
    backbone = adapted("test_vit", LoRA(rank=2))
    to_timm(backbone, tmp_path, size=96)
    configuration = json.loads((tmp_path / "config.json").read_text())
    assert configuration["model_args"]["img_size"] == 96
    assert configuration["pretrained_cfg"]["input_size"] == [3, 96, 96]
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert model.pos_embed.shape[1] == 1 + 36
    images = images_of(backbone, 6, 6)
    with torch.no_grad():
        found = model.forward_features(backbone.normalise(images))
    assert apart(found, tokens(backbone, images)) < 1e-5


def test_a_position_table_that_is_not_square_is_not_taken_for_one(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=(64, 144), dynamic_img_size=True)
    torch.save(model.state_dict(), tmp_path / "wide.pth")  # 4×9 patches, as many as 6×6
    backbone = Backbone("test_vit", str(tmp_path / "wide.pth"), position_grid=(4, 9)).requires_grad_(False).eval()
    to_timm(backbone, tmp_path / "own")
    configuration = json.loads((tmp_path / "own" / "config.json").read_text())
    assert configuration["pretrained_cfg"]["input_size"] == [3, 64, 144]
    to_timm(backbone, tmp_path / "square", size=96)
    square = timm.create_model(f"local-dir:{tmp_path / 'square'}", pretrained=True).eval()
    images = images_of(backbone, 6, 6)
    with torch.no_grad():
        found = square.forward_features(backbone.normalise(images))
    assert apart(found, tokens(backbone, images)) < 1e-5
    with pytest.raises(UserError, match=r"is for images of 64×144, .* resample it by --size, such as 64"):
        to_hugging_face(backbone, tmp_path / "hf")


def test_the_backbone_itself_keeps_its_adapter(tmp_path: Path) -> None:
    backbone = adapted("tiny_dinov2", LoRA(rank=2))
    images = images_of(backbone, 4, 4)
    before = tokens(backbone, images)
    to_timm(backbone, tmp_path, size=48)
    assert backbone.adapter == LoRA(rank=2)
    assert torch.equal(tokens(backbone, images), before)


@pytest.mark.parametrize("write", [to_timm, to_hugging_face])
@pytest.mark.parametrize("kind", [UniAdapter(rank=2), AdaptFormer(rank=2)], ids=str)
def test_a_bottleneck_is_refused_with_what_takes_it(write, kind: Adapter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not linear in the tokens; use --to onnx or --to torch-export"):
        write(adapted("tiny_dinov2", kind), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LoRA(rank=2), SLR(rank=2)], ids=str)
@pytest.mark.parametrize("name", ["tiny_vit", "tiny_dinov2", "tiny_reg4_dinov2"])
def test_transformers_loads_the_adapted_features(name: str, kind: Adapter, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="Hugging Face folders go unchecked without transformers")
    backbone = adapted(name, kind)
    for size in (None, 48):
        folder = to_hugging_face(backbone, tmp_path / str(size), size)
        model, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not report["unexpected_keys"]
        assert {key for key in report["missing_keys"] if not key.startswith("pooler.")} == set()
        side = 4 if size is None else 6
        images = images_of(backbone, side, side)
        with torch.no_grad():
            found = model.eval()(pixel_values=backbone.normalise(images)).last_hidden_state
        assert apart(found, tokens(backbone, images)) < 1e-4


def test_hugging_face_refuses_what_its_layouts_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a ViT, DINOv2 or DINOv2 with registers, found tiny_dinov3"):
        to_hugging_face(adapted("tiny_dinov3", LoRA(rank=2)), tmp_path)


@pytest.mark.parametrize(
    ("name", "size", "message"), [("tiny_dinov2", 50, "such as 48"), ("tiny_dinov3", 48, "leave it out")]
)
def test_a_size_without_effect_is_refused(name: str, size: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        to_timm(adapted(name, LoRA(rank=2)), tmp_path, size)
