"""Strength of an adapter at load time: 0 is the frozen model and 1 the adapted one, bit for bit, for every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.backbones.adapters import SLR, Adapter, LoRA
from src.backbones.backbone import Backbone, load_backbone
from src.backbones.identity import adapter_record, described, install_recorded
from src.core.errors import UserError
from tests.backbones.test_adapters import KINDS, images_for, move
from tests.tiny import FAMILIES, tiny_backbone

everywhere = pytest.mark.parametrize("family", FAMILIES)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def tokens(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone(images).patches


@everywhere
@every_kind
def test_zero_is_frozen_one_is_adapted_and_half_lies_between(
    family: str, kind: Adapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, file = tiny_backbone(monkeypatch, FAMILIES[family]), tmp_path / "a.safetensors"
    images = images_for(made)
    bare = tokens(made, images)
    made.install(kind)
    move(made)
    made.save_adapter(file, 1, "teacher")
    adapted = tokens(made, images)
    found = {}
    for scale in (0.0, 0.5, 1.0):
        loaded = load_backbone(FAMILIES[family], "none", str(file), adapter_scale=scale)
        found[scale] = tokens(loaded, images)
        with loaded.adapters_off():
            assert torch.equal(tokens(loaded, images), bare)
        assert torch.equal(tokens(loaded, images), found[scale])
        loaded.uninstall()
        assert torch.equal(tokens(loaded, images), bare)
    assert torch.equal(found[0.0], bare) and torch.equal(found[1.0], adapted)
    change, whole = (found[0.5] - bare).norm(), (adapted - bare).norm()
    assert 0.2 * whole < change < 0.9 * whole


@everywhere
@every_kind
def test_a_fraction_that_is_saved_is_the_fraction_that_is_loaded(
    family: str, kind: Adapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, whole, half = tiny_backbone(monkeypatch, FAMILIES[family]), tmp_path / "a.safetensors", tmp_path / "b"
    images = images_for(made)
    made.install(kind)
    move(made)
    before = tokens(made, images)
    if isinstance(kind, SLR):
        with pytest.raises(UserError, match="cannot be saved at reduced strength; set strength to 1"):
            made.save_adapter(half, 1, "teacher", strength=0.5)
        return
    made.save_adapter(whole, 1, "teacher")
    made.save_adapter(half, 1, "teacher", strength=0.5)
    assert torch.equal(tokens(made, images), before)
    wanted = tokens(load_backbone(FAMILIES[family], "none", str(whole), adapter_scale=0.5), images)
    torch.testing.assert_close(tokens(load_backbone(FAMILIES[family], "none", str(half)), images), wanted)


@pytest.mark.parametrize("kind", [LoRA(rank=2), SLR(rank=2)], ids=str)
def test_a_weaker_adapter_merges_as_it_is(kind: Adapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, file = tiny_backbone(monkeypatch), tmp_path / "a.safetensors"
    made.install(kind)
    move(made)
    made.save_adapter(file, 1, "teacher")
    images, loaded = images_for(made), tiny_backbone(monkeypatch)
    loaded.load_adapter(file, adapter_scale=0.5)
    before = tokens(loaded, images)
    loaded.merge()
    assert torch.allclose(tokens(loaded, images), before, atol=1e-5)
    assert loaded.adapter is None and loaded.adapter_scale == 1


def test_a_scale_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, file = tiny_backbone(monkeypatch), tmp_path / "a.safetensors"
    made.install(LoRA(rank=2))
    move(made)
    made.save_adapter(file, 1, "teacher")
    for scale in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="from 0"):
            Backbone("vit_tiny_patch16_224", "none", adapter=str(file), adapter_scale=scale)
    with pytest.raises(UserError, match="no adapter"):
        Backbone("vit_tiny_patch16_224", "none", adapter_scale=0.5)
    with pytest.raises(UserError, match="no adapter"):
        load_backbone("vit_tiny_patch16_224", "none", adapter_scale=0.5)


def test_a_weaker_adapter_is_not_saved_as_if_it_were_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, file = tiny_backbone(monkeypatch), tmp_path / "a.safetensors"
    made.install(LoRA(rank=2))
    move(made)
    made.save_adapter(file, 1, "teacher")
    weak = Backbone("vit_tiny_patch16_224", "none", adapter=str(file), adapter_scale=0.5)
    with pytest.raises(UserError, match=r"adapter_scale=0\.5"):
        weak.save_adapter(tmp_path / "b.safetensors", 1, "teacher")
    assert not (tmp_path / "b.safetensors").exists()


@every_kind
def test_a_record_brings_the_strength_back_with_the_tensors(
    kind: Adapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, file = tiny_backbone(monkeypatch), tmp_path / "a.safetensors"
    made.install(kind)
    move(made)
    made.save_adapter(file, 1, "teacher")
    images, weak, fresh = images_for(made), tiny_backbone(monkeypatch), tiny_backbone(monkeypatch)
    weak.load_adapter(file, adapter_scale=0.25)
    record = adapter_record(weak)
    assert record is not None and record["scale"] == 0.25 and "adapter_scale=0.25" in described(record)
    install_recorded(fresh, record)
    fresh.load_state_dict(weak.state_dict())
    assert torch.equal(tokens(fresh, images), tokens(weak, images)) and adapter_record(fresh) == record
