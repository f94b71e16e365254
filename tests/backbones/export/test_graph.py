"""ONNX and torch.export: the graph's features are the adapted backbone's, at free and at fixed sizes."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from src.backbones.adapters import BitFit, LoRA, UniAdapter
from src.backbones.export import graph as graph_module
from src.backbones.export import to_onnx, to_torch_export
from src.core.errors import UserError
from tests.backbones.export.adapted import adapted, apart, images_of, tokens

MODELS = ["tiny_dinov2", "tiny_reg4_dinov2", "tiny_dinov3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, UniAdapter(rank=2)) for name in MODELS), ("tiny_dinov2", LoRA(rank=2)), ("tiny_dinov2", BitFit())],
    ids=str,
)
def test_onnx_of_any_size_gives_the_adapted_features(name: str, kind, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    backbone = adapted(name, kind)
    session = onnxruntime.InferenceSession(str(to_onnx(backbone, tmp_path / "out")))
    assert [output.name for output in session.get_outputs()] == ["cls", "patches"]
    for rows, columns, batch in ((2, 2, 1), (5, 3, 2), (4, 4, 3), (9, 7, 1)):  # 4 × 4: the position table's own
        images = images_of(backbone, rows, columns, batch)
        expected = tokens(backbone, images)
        with backbone.adapters_off():
            assert apart(tokens(backbone, images), expected) > 1e-2
        cls, patches = session.run(["cls", "patches"], {"images": images.numpy()})
        assert apart(torch.from_numpy(cls), expected[:, 0]) < 1e-4
        assert apart(torch.from_numpy(patches), expected[:, backbone.prefix :]) < 1e-4


@pytest.mark.slow
def test_onnx_of_one_size_refuses_another(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    backbone = adapted("tiny_dinov2", LoRA(rank=2))
    session = onnxruntime.InferenceSession(str(to_onnx(backbone, tmp_path, size=48)))
    images = images_of(backbone, 6, 6, batch=3)
    cls, _ = session.run(["cls", "patches"], {"images": images.numpy()})
    assert apart(torch.from_numpy(cls), tokens(backbone, images)[:, 0]) < 1e-4
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, {"images": images_of(backbone, 4, 4).numpy()})


@pytest.mark.parametrize(("name", "kind"), [("tiny_dinov2", UniAdapter(rank=2)), ("tiny_dinov3", LoRA(rank=2))])
def test_torch_export_gives_the_adapted_features(name: str, kind, tmp_path: Path) -> None:
    backbone = adapted(name, kind)
    run = torch.export.load(to_torch_export(backbone, tmp_path)).module()
    for rows, columns in ((2, 3), (4, 4), (7, 5)):
        images = images_of(backbone, rows, columns)
        cls, patches = run(images)
        expected = tokens(backbone, images)
        assert apart(cls, expected[:, 0]) < 1e-5 and apart(patches, expected[:, backbone.prefix :]) < 1e-5


def test_a_graph_with_other_features_is_refused_and_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module.TokenGraph, "forward", lambda self, images: (images.mean(1), images.sum(1)))
    program, calls = graph_module._program, []

    def changed(graph, *rest):
        result = program(graph, *rest)
        calls.append(graph)
        monkeypatch.setattr(graph_module.TokenGraph, "forward", lambda self, images: (images.mean(1), images.amax(1)))
        return result

    monkeypatch.setattr(graph_module, "_program", changed)
    with pytest.raises(UserError, match=r"patches of images .* differ"):
        to_torch_export(adapted("tiny_dinov2", None), tmp_path, size=32)
    assert calls and list(tmp_path.iterdir()) == []


def test_a_size_between_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"multiple of the patch size 8, such as 48"):
        to_torch_export(adapted("tiny_dinov2", None), tmp_path, size=50)


def test_a_missing_package_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(UserError, match=r"needs onnxscript; pip install 'glare-lightning\[export\]'"):
        to_onnx(adapted("tiny_dinov2", None), tmp_path)
