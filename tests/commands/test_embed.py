"""`python -m src embed`: tables of features that resume, with a tiny ViT."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src import load_backbone
from src.__main__ import main
from src.backbones.adapters import UniAdapter
from src.commands import embed

NAMES = ["0.png", "1.png", "deep/2.png", "deep/3.png", "deep/4.png"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images of two sizes, weights, an adapter that changes features, and parts of two images."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        pixels = rng.integers(256, size=(32 + 16 * (number % 2), 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.pth")
    backbone = load_backbone("test_vit", weights=str(tmp_path / "vit.pth"))
    backbone.install(UniAdapter(rank=2))
    with torch.no_grad():
        for _, parameter in backbone.trainable():
            parameter.add_(torch.randn_like(parameter))
    backbone.save_adapter(tmp_path / "adapter.safetensors", 1, "teacher")
    monkeypatch.setattr(embed, "CHUNK", 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path


def run(folder: Path, *more: str) -> int:
    options = ["--adapter", str(folder / "adapter.safetensors"), "--weights", str(folder / "vit.pth")]
    return main(["embed", str(folder / "images"), "--out", str(folder / "out"), *options, *more])


def expected(folder: Path) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    weights, adapter = str(folder / "vit.pth"), str(folder / "adapter.safetensors")
    backbone = load_backbone("test_vit", weights=weights, adapter=adapter)
    with torch.no_grad():
        images = [backbone.transform()(folder / "images" / name)[None] for name in NAMES]
        features = [backbone(image) for image in images]
        maps = [backbone.dense(folder / "images" / name).numpy() for name in NAMES]
    cls = np.stack([each.cls[0].numpy() for each in features])
    return cls, np.stack([each.patches[0].mean(0).numpy() for each in features]), maps


def test_numpy_files_hold_each_images_features(folder: Path) -> None:
    assert run(folder, "--dense") == 0
    cls, patches, maps = expected(folder)
    assert (folder / "out" / "images.txt").read_text().splitlines() == NAMES
    np.testing.assert_allclose(np.load(folder / "out" / "cls.npy"), cls, atol=1e-5)
    np.testing.assert_allclose(np.load(folder / "out" / "patches.npy"), patches, atol=1e-5)
    for name, each in zip(NAMES, maps, strict=True):
        np.testing.assert_allclose(np.load(folder / "out" / "dense" / f"{name}.npy"), each, atol=1e-2)


def test_a_parquet_table_holds_the_same(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run(folder, "--to", "parquet") == 0
    table = parquet.read_table(folder / "out" / "embeddings.parquet").to_pydict()
    cls, patches, _ = expected(folder)
    assert table["image"] == NAMES
    np.testing.assert_allclose(table["cls"], cls, atol=1e-5)
    np.testing.assert_allclose(table["patches"], patches, atol=1e-5)


def test_started_again_it_computes_what_is_missing_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = embed.features_of, []

    def failing(backbone, path: Path, size):
        seen.append(path.name)
        if path.name == "3.png" and seen.count("3.png") == 1:
            raise KeyboardInterrupt
        return real(backbone, path, size)

    monkeypatch.setattr(embed, "features_of", failing)
    assert run(folder) == 130
    assert not (folder / "out" / "cls.npy").exists()
    assert run(folder) == 0
    assert seen == ["0.png", "1.png", "2.png", "3.png", "2.png", "3.png", "4.png"]
    np.testing.assert_allclose(np.load(folder / "out" / "cls.npy"), expected(folder)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"), [("--size", "size"), ("--dense", "dense"), ("image", "contents, names"), ("pixels", "contents")]
)
def test_other_settings_do_not_mix(folder: Path, change: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    if change == "image":
        (folder / "images" / "0.png").unlink()
    if change == "pixels":
        Image.new("RGB", (32, 32)).save(folder / "images" / "0.png")
    more = {"--size": ["--size", "64"], "--dense": ["--dense"]}.get(change, [])
    assert run(folder, *more) == 1
    assert f"other settings ({said})" in capsys.readouterr().err


def test_a_missing_package_is_named_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embed.importlib.util, "find_spec", lambda name: None)
    assert main(["embed", str(folder / "none"), "--out", str(folder / "out"), "--to", "parquet"]) == 2
    assert "glare-lightning[embed]" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", bytes(range(256))])
@pytest.mark.parametrize("name", ["embed.json", ".parts/000001.npz"])
def test_what_is_damaged_is_named_and_made_again(
    folder: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder) == 0
    whole = (folder / "out" / "cls.npy").read_bytes()
    (folder / "out" / "cls.npy").unlink()
    (folder / "out" / name).write_bytes(content)
    capsys.readouterr()
    assert run(folder) == 0
    assert name in capsys.readouterr().err
    assert (folder / "out" / "cls.npy").read_bytes() == whole


@pytest.mark.parametrize("place", ["file", "file/below", "images/0.png"])
def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(
    folder: Path, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("in the way")
    monkeypatch.setattr(embed, "backbone_of", lambda _: pytest.fail("built"))
    assert main(["embed", str(folder / "images"), "--out", str(folder / place)]) == 1
    assert "--out: expected a folder, found the file" in capsys.readouterr().err


def test_names_that_are_no_text_are_written_escaped(folder: Path) -> None:
    os.rename(folder / "images" / "0.png", os.fsencode(folder / "images") + b"/\xff\n.png")
    assert run(folder) == 0
    names = (folder / "out" / "images.txt").read_text(encoding="utf-8").splitlines()
    assert len(names) == len(NAMES) and r"\udcff\n.png" in names
