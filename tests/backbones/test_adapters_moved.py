"""An adapter goes where its backbone is: device and dtype of the weights that it stands beside."""

from __future__ import annotations

import pytest
import torch

from src.backbones.adapters.selective import FrozenValues
from tests.backbones.test_adapters import KINDS, images_for, move
from tests.tiny import FAMILIES, tiny_backbone

everywhere = pytest.mark.parametrize("family", FAMILIES)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def homes(backbone) -> set[tuple[str, torch.dtype]]:
    """Devices and dtypes of all parameters and frozen values; timm keeps RoPE's buffers in float32."""
    frozen = [module for module in backbone.modules() if isinstance(module, FrozenValues)]
    tensors = [*backbone.parameters(), *(value for module in frozen for value in module.buffers())]
    return {(tensor.device.type, tensor.dtype) for tensor in tensors}


@everywhere
@every_kind
def test_an_adapter_installed_or_loaded_into_a_bfloat16_backbone_is_bfloat16(family, kind, monkeypatch, tmp_path):
    made = tiny_backbone(monkeypatch, FAMILIES[family])
    made.install(kind)
    move(made)
    made.save_adapter(tmp_path / "a", 1, "teacher")
    backbone = tiny_backbone(monkeypatch, FAMILIES[family]).to(torch.bfloat16)
    images = images_for(backbone)
    bare = backbone(images).patches
    backbone.install(kind)
    assert homes(backbone) == {("cpu", torch.bfloat16)}
    assert torch.equal(backbone(images).patches, bare)
    backbone(images).patches.float().square().mean().backward()
    assert all(parameter.grad is not None for _, parameter in backbone.trainable())
    backbone.load_adapter(tmp_path / "a")
    assert homes(backbone) == {("cpu", torch.bfloat16)}
    assert torch.equal(backbone(images).patches, made.to(torch.bfloat16)(images).patches)
    assert not torch.equal(backbone(images).patches, bare)
    with backbone.adapters_off():
        assert torch.equal(backbone(images).patches, bare)
    backbone.uninstall()
    assert homes(backbone) == {("cpu", torch.bfloat16)} and torch.equal(backbone(images).patches, bare)


@everywhere
@every_kind
def test_an_adapter_installed_or_loaded_into_a_backbone_without_data_has_none(family, kind, monkeypatch, tmp_path):
    made = tiny_backbone(monkeypatch, FAMILIES[family])
    made.install(kind)
    made.save_adapter(tmp_path / "a", 1, "teacher")
    backbone = tiny_backbone(monkeypatch, FAMILIES[family]).to("meta")
    report = backbone.install(kind)
    assert homes(backbone) == {("meta", torch.float32)} and report.trainable > 0
    assert backbone(images_for(backbone).to("meta")).patches.is_meta
    backbone.load_adapter(tmp_path / "a")
    assert homes(backbone) == {("meta", torch.float32)}
    with backbone.adapters_off():
        assert backbone(images_for(backbone).to("meta")).patches.is_meta
    backbone.uninstall()
    assert homes(backbone) == {("meta", torch.float32)}


@every_kind
def test_a_seed_gives_the_same_adapter_in_every_dtype_and_at_every_device(kind, monkeypatch):
    values, states = [], []
    for target in (torch.float32, torch.bfloat16, "meta"):
        backbone = tiny_backbone(monkeypatch).to(target)
        torch.manual_seed(3)
        backbone.install(kind)
        states.append(torch.get_rng_state())
        values.append([parameter.detach() for _, parameter in backbone.trainable()])
    assert all(torch.equal(state, states[0]) for state in states)
    assert all(torch.equal(one.bfloat16(), other) for one, other in zip(values[0], values[1], strict=True))
