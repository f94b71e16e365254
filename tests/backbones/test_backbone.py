"""The backbone gives timm's features, and attention that changes none of them."""

import pytest
import timm
import torch
from timm.models._features import FeatureGetterNet
from torch.autograd.graph import saved_tensors_hooks

from src.backbones.adapters import Full
from src.backbones.backbone import Backbone
from src.core.errors import UserError
from tests.backbones.test_adapters import KINDS, move
from tests.tiny import FAMILIES, SIZES, TINY, tiny_backbone


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_timms_bit_for_bit_and_attention_changes_no_bit(family, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    images = torch.rand(2, 3, 3 * backbone.patch_size, 4 * backbone.patch_size)
    features = backbone(images)
    timm_tokens = backbone.trunk.forward_features(backbone.normalise(images))
    assert torch.equal(torch.cat((features.cls[:, None], features.extra, features.patches), 1), timm_tokens)
    assert features.grid == (3, 4) and features.attention is None
    with_attention = backbone(images, attention=True)
    for one, other in zip(features[:3], with_attention[:3], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_the_class_row_of_the_last_block(family, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    images = torch.rand(2, 3, 3 * backbone.patch_size, 4 * backbone.patch_size)
    attention = backbone(images, attention=True).attention
    module = backbone.trunk.blocks[-1].attn
    module.fused_attn = False  # timm's unfused path passes its whole attention map through attn_drop
    seen = []
    module.attn_drop.register_forward_hook(lambda _, __, output: seen.append(output))
    backbone(images)
    assert torch.allclose(attention, seen[0][:, :, 0, backbone.prefix :], atol=1e-6)


def test_uint8_and_float_images_give_the_same_features(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    images = torch.randint(0, 256, (1, 3, 32, 32)).to(torch.uint8)
    assert torch.equal(backbone(images).patches, backbone(images.float() / 255).patches)
    half = backbone.to(torch.bfloat16)  # Lightning's bf16-true: images that were resized or padded are float32
    assert torch.equal(half.normalise(images), half.normalise(images.float() / 255).bfloat16())
    assert half(images.float() / 255).patches.dtype == torch.bfloat16


def test_feature_maps_are_the_blocks_outputs_and_the_normed_last_one(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    images = torch.rand(2, 3, 32, 48)
    first, second = backbone.feature_maps(images, [0, 1])
    (last,) = backbone.feature_maps(images)
    assert last.shape == (2, 32, 2, 3)
    assert torch.equal(last.flatten(2).transpose(1, 2), backbone(images).patches)
    normed = backbone.trunk.norm(second.flatten(2).transpose(1, 2))
    assert torch.allclose(normed, backbone(images).patches, atol=1e-6)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [None, *KINDS], ids=str)
def test_maps_of_any_blocks_equal_the_blocks_run_one_by_one_bit_for_bit(family, kind, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family]).eval()
    images = torch.rand(2, 3, 2 * backbone.patch_size, 3 * backbone.patch_size)
    if kind is not None:
        backbone.install(kind)
        move(backbone)
    outputs = []
    for block in backbone.trunk.blocks:
        block.register_forward_hook(lambda _, __, output: outputs.append(output[:, backbone.prefix :]))
    backbone(images)
    wanted = [output.transpose(1, 2).unflatten(2, (2, 3)) for output in outputs]
    for found, index in zip(backbone.feature_maps(images, [1, 0, 1]), (1, 0, 1), strict=True):
        assert torch.equal(found, wanted[index]) and found.stride() == wanted[index].stride()
    final, maps = backbone.forward_intermediates(images, indices=[0, 1], output_fmt="NCHW")
    assert torch.equal(final[:, backbone.prefix :], backbone(images).patches)
    assert all(torch.equal(found, each) for found, each in zip(maps, wanted, strict=True))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "DINOv3"])
def test_maps_without_prefix_tokens_equal_timms_model_without_them(family, monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES[family])
    options = {"class_token": False, "reg_tokens": 0, "global_pool": "avg", "fc_norm": False, "num_classes": 0}
    reference = timm.create_model(FAMILIES[family], dynamic_img_size=True, **options, **SIZES).eval()
    state = {
        name: value for name, value in backbone.trunk.state_dict().items() if name not in ("cls_token", "reg_token")
    }
    state["pos_embed"] = state["pos_embed"][:, -reference.pos_embed.shape[1] :]
    reference.load_state_dict(state)
    images = torch.rand(2, 3, 3 * backbone.patch_size, 4 * backbone.patch_size)
    final, wanted = reference.forward_intermediates(backbone.normalise(images), [0, 1])
    for found, block in zip(backbone.feature_maps(images, [1, 0], prefix_tokens=False), (1, 0), strict=True):
        torch.testing.assert_close(found, wanted[block])
    (last,) = backbone.feature_maps(images, prefix_tokens=False)
    torch.testing.assert_close(last.flatten(2).transpose(1, 2), final)
    assert not torch.allclose(last, backbone.feature_maps(images)[0], atol=1e-3)


def test_rotary_trunks_keep_their_prefix_tokens(monkeypatch):
    backbone = tiny_backbone(monkeypatch, FAMILIES["DINOv3"])
    with pytest.raises(UserError, match=r"prefix_tokens is false.*set it to true"):
        backbone.feature_maps(torch.rand(1, 3, 32, 32), prefix_tokens=False)


def test_checkpointed_blocks_give_the_same_maps_and_gradients_and_keep_less(monkeypatch):
    kept, gradients, images = [], [], torch.rand(2, 3, 32, 48)
    for checkpointed in (False, True):
        backbone = tiny_backbone(monkeypatch)
        backbone.install(Full())
        backbone.checkpoint_blocks = checkpointed
        sizes: list[int] = []
        with saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            maps = backbone.feature_maps(images, [0, 1])
        sum(each.square().sum() for each in maps).backward()
        kept.append(sum(sizes))
        gradients.append(backbone.trunk.blocks[0].mlp.fc1.weight.grad)
    assert torch.equal(*gradients) and kept[1] < 0.5 * kept[0]


def test_a_toolbox_that_takes_timm_models_takes_a_backbone(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    images = torch.rand(1, 3, 32, 48)
    encoder = FeatureGetterNet(backbone, out_indices=(0, 1), prune=False)
    assert encoder.feature_info.channels() == [32, 32] and encoder.feature_info.reduction() == [16, 16]
    for found, wanted in zip(encoder(images), backbone.feature_maps(images, [0, 1]), strict=True):
        assert torch.equal(found, wanted)


def test_wrong_sides_and_blocks_are_refused_with_a_way_out(monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    with pytest.raises(ValueError, match=r"30×40 px.*multiples of its patch size 16.*32×"):
        backbone(torch.rand(1, 3, 30, 40))
    with pytest.raises(ValueError, match="from 0 to 1"):
        backbone.feature_maps(torch.rand(1, 3, 32, 32), [0, 2])


def test_everything_is_frozen_until_something_is_installed():
    backbone = Backbone(TINY, "none")
    assert backbone.trainable() == [] and not backbone.trunk.training


def test_what_to_take_from_a_checkpoint_reaches_the_loader(monkeypatch):
    asked = []
    plain = tiny_backbone(monkeypatch).trunk
    monkeypatch.setattr("src.backbones.backbone.build_trunk", lambda *wishes: asked.append(wishes) or plain)
    place = {"prefix": "model.vit", "position_grid": (9, 16)}
    Backbone("vit", "file.pth", network="student", second_class_token=False, positions="original", **place)
    assert asked == [("vit", "file.pth", "student", False, "original", "model.vit", (9, 16))]
