"""Two hundred damaged files: each is refused with one message of ours, or loads to exactly what it should."""

import tempfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import src.backbones.checkpoints as checkpoints
from src.backbones.checkpoints import build_trunk, load_weights
from tests.backbones.checkpoints import tiny_timm  # noqa: F401
from tests.backbones.checkpoints.every_layout import EVERY

FAMILIES = ["DINO", "UDI full", "DINOv2", "DINOv2, Hugging Face", "DINOv2 registers", "DINOv3", "DINOv3, Hugging Face",
            "DINOv3, timm", "MAE", "MoCo v3", "ViT, Hugging Face"]  # fmt: skip
OURS = str(Path(checkpoints.__file__).parent)


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            tensors |= flat(value, f"{prefix}{name}.") if all(isinstance(key, str) for key in value) else {}
        elif isinstance(value, Tensor):
            tensors[prefix + name] = value
    return tensors


def rename(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    state[
        draw(
            st.sampled_from([name + "x", "x." + name, name.upper(), name.replace(".", "_"), draw(st.text(max_size=9))])
        )
    ] = state.pop(name)


def drop(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    del state[name]


def reshape(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    value = state[name]
    other = [value.flatten(), value[None], value.flatten()[0], value[..., :-1], value[:0], torch.cat([value, value])]
    state[name] = draw(st.sampled_from([choice for choice in other if choice.shape != value.shape])).clone()


def poison(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    value = state[name] = state[name].float().clone()
    value.view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(
        st.sampled_from([float("nan"), float("inf"), -float("inf")])
    )


def retype(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    kinds = [torch.int64, torch.bool, torch.uint8, torch.complex64, torch.float16, torch.float64, torch.float8_e4m3fn]
    state[name] = state[name].to(draw(st.sampled_from(kinds)))


def sparsify(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    state[name] = state[name].to_sparse()


def inflate(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    state[name] = torch.zeros(1).expand(draw(st.sampled_from([(1 << 40,), (1 << 20, 1 << 20), (1, 1 << 30, 32)])))


def add(state: dict[str, Tensor], name: str, draw: st.DrawFn) -> None:
    state[name.rsplit(".", 1)[0] + ".more.weight"] = state[name].clone()


TENSOR_MUTATIONS: list[Callable[..., None]] = [rename, drop, reshape, poison, retype, sparsify, inflate, add]


def truncate(path: Path, draw: st.DrawFn) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw(st.integers(0, len(content) - 1))])


def disguise(path: Path, draw: st.DrawFn) -> None:
    path.write_text(draw(st.text(max_size=200)), encoding="utf-8")


def overwrite(path: Path, draw: st.DrawFn) -> None:
    path.write_bytes(draw(st.binary(max_size=400)))


def compress(path: Path, draw: st.DrawFn) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(draw(st.integers(10_000, 3_000_000))))


def flip(path: Path, draw: st.DrawFn) -> None:
    """One spoilt byte anywhere: in the list of tensors, in their values, in the archive's own records."""
    content = bytearray(path.read_bytes())
    content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    path.write_bytes(content)


FILE_MUTATIONS = [truncate, disguise, overwrite, compress, flip]


@pytest.fixture(scope="module")
def intact() -> dict[str, dict[str, Tensor]]:
    states = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FAMILIES:
            published = EVERY[name]()
            torch.save(published.content, Path(folder) / "file.pth")
            states[name] = load_weights(str(Path(folder) / "file.pth"), published.model).state
    return states


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_is_refused_with_one_message_or_loads_as_it_should(
    intact: dict[str, dict[str, Tensor]], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FAMILIES))
    mutation = data.draw(st.sampled_from([*TENSOR_MUTATIONS, *FILE_MUTATIONS]))
    published = EVERY[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.pth"
        content: dict[str, Any] = flat(published.content)
        if mutation in TENSOR_MUTATIONS:
            mutation(content, data.draw(st.sampled_from(sorted(content))), data.draw)
        torch.save(content, path)
        if mutation in FILE_MUTATIONS:
            mutation(path, data.draw)
        try:
            trunk = build_trunk(published.model, str(path))
        except (ValueError, FileNotFoundError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            assert last.filename.startswith(OURS), f"raised in {last.filename}, not by us: {error}"
            assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
            assert len(str(error)) > 20
            return
        loaded, expected = trunk.state_dict(), intact[name]
        assert loaded.keys() == expected.keys()
        for key, value in loaded.items():
            assert torch.allclose(value, expected[key], rtol=1e-3, atol=1e-3), f"{mutation.__name__} changed {key}"
        assert all(buffer.isfinite().all() for buffer in trunk.buffers())


@pytest.mark.parametrize("mutation", [drop, poison, reshape, rename])
@pytest.mark.parametrize("key", ["blocks.1.mlp.fc1.weight", "pos_embed", "patch_embed.proj.weight", "norm.bias"])
def test_damage_inside_the_trunk_is_never_let_through(mutation: Callable[..., None], key: str, tmp_path: Path) -> None:
    content = flat(EVERY["DINOv2"]().content)
    mutation(content, key, _first)
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"file\.pth"):
        build_trunk("tiny_dinov2", str(tmp_path / "file.pth"))


def _first(strategy: Any) -> Any:
    """The simplest value of a strategy, so that the mutations above serve without hypothesis."""
    return strategy.elements[0] if hasattr(strategy, "elements") else 0 if "integers" in repr(strategy) else "y"


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_one_missing_attention_bias_is_not_taken_for_zero(part: str, tmp_path: Path) -> None:
    content = flat(EVERY["DINOv2, Hugging Face"]().content)
    del content[f"encoder.layer.0.attention.attention.{part}.bias"]
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=rf"{part}\.bias missing"):
        build_trunk("tiny_dinov2", str(tmp_path / "file.pth"))


def test_a_part_of_another_type_is_not_rounded_into_the_whole(tmp_path: Path) -> None:
    """Joining an integer key bias with float query and value would promote it in silence."""
    content = flat(EVERY["DINOv2, Hugging Face"]().content)
    name = "encoder.layer.0.attention.attention.key.bias"
    content[name] = content[name].long()
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"key\.bias is torch\.int64"):
        build_trunk("tiny_dinov2", str(tmp_path / "file.pth"))
