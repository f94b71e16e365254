"""An adapter file names its kind by class path; a kind of another package loads only if that package is trusted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from src.backbones import adapters
from src.backbones.adapter_file import read_metadata
from src.backbones.adapters import SLR, Adapter, AdaptFormer, BitFit, LastBlocks, LoRA, UniAdapter
from src.backbones.adapters.kinds import class_path, read_kind, settings_text
from src.backbones.backbone import load_backbone
from src.core.errors import UserError
from tests.backbones.test_adapters import KINDS, move
from tests.tiny import tiny_backbone

IMAGES = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
PACKAGE = '''
from dataclasses import dataclass
from src.backbones.adapters import Adapter, LoRA

@dataclass(frozen=True)
class Wide(LoRA):
    note: str = "mine"

class Half(Adapter):
    """Abstract still."""

class Unrelated:
    pass

def attack():
    raise SystemExit("ran")
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of somebody's own, importable and not imported."""
    (tmp_path / "theirlab").mkdir()
    (tmp_path / "theirlab" / "__init__.py").write_text("")
    (tmp_path / "theirlab" / "kinds.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "theirlab"
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirlab"]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kind_is_read_back_from_its_class_path_and_from_its_old_names(kind: adapters.Adapter) -> None:
    path, settings = class_path(kind), settings_text(kind)
    assert path == f"src.backbones.adapters.{type(kind).__name__}"
    for name in (path, type(kind).__name__, f"src.models.adapters.{type(kind).__name__}"):
        assert read_kind(name, settings) == kind


def test_a_kind_of_another_package_is_saved_and_loads_once_the_package_is_trusted_or_imported(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = "theirlab.kinds.Wide", tmp_path / "a.safetensors"
    made = tiny_backbone(monkeypatch)
    made.install(read_kind(path, '{"rank": 2, "targets": ["q"]}', trust=(package,)))
    move(made)
    made.save_adapter(file, 1, "teacher")
    assert read_metadata(file)["adapter"] == path
    monkeypatch.delitem(sys.modules, "theirlab.kinds")
    monkeypatch.delitem(sys.modules, "theirlab")
    fresh = tiny_backbone(monkeypatch)
    with pytest.raises(UserError, match=r'import theirlab first.*trust=\("theirlab",\)'):
        fresh.load_adapter(file)
    assert "theirlab.kinds" not in sys.modules
    loaded = load_backbone("vit_tiny_patch16_224", "none", str(file), trust=(package,))
    assert str(loaded.adapter) == "Wide(rank=2, alpha=16.0, targets=('q',), note='mine')"
    fresh.load_adapter(file)  # the package is imported now
    with torch.no_grad():
        for one in (loaded, fresh):
            assert torch.equal(one(IMAGES).patches, made(IMAGES).patches)


@pytest.mark.parametrize("name", ["attack", "Unrelated", "Half", "Missing", "Adapter"])
def test_what_is_no_complete_adapter_is_refused_before_anything_is_called(package: str, name: str) -> None:
    with pytest.raises(UserError, match=r"expected a subclass of src\.backbones\.adapters\.Adapter"):
        read_kind(f"theirlab.kinds.{name}", "{}", trust=(package,))


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "antigravity.Flight", "Nonsense", "a..b", ""])
def test_functions_and_the_standard_library_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="adapter kind"):
        read_kind(path, "{}", trust=("os", "antigravity", "a"))
    assert "antigravity" not in sys.modules


def test_a_kind_that_no_file_could_hold_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Local(BitFit):
        pass

    backbone = tiny_backbone(monkeypatch)
    with pytest.raises(UserError, match="top level of a module"):
        backbone.install(Local())
    assert backbone.trainable() == []


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (UniAdapter, {"rank": 0}, "rank to be a whole number from 1 to"),
        (UniAdapter, {"rank": True}, "a whole number"),
        (UniAdapter, {"rank": 10**9}, "from 1 to"),
        (UniAdapter, {"scale": float("nan")}, "scale to be a finite number"),
        (UniAdapter, {"placement": "beside"}, "one of sequential, parallel"),
        (AdaptFormer, {"scale": float("inf")}, "a finite number"),
        (LoRA, {"alpha": 10**400}, "a finite number"),
        (LoRA, {"targets": ("query",)}, "one of q, k, v"),
        (LoRA, {"targets": "q"}, "a tuple"),
        (LoRA, {"targets": ("q", "q")}, "name a layer twice"),
        (SLR, {"rank": -1}, "from 1 to"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    kind: type[adapters.Adapter], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("LoRA", {"rank": 4, "targets": ["q", "fc1"], "first_block": 1}, LoRA(4, targets=("q", "fc1"), first_block=1)),
        ("SLR", {"targets": ["proj"]}, SLR(targets=("proj",))),
        ("UniAdapter", {"rank": 4, "scale": 1}, UniAdapter(rank=4, scale=1.0)),
        ("LastBlocks", {"count": 2}, LastBlocks(2)),
    ],
)
def test_kinds_are_built_from_what_a_yaml_holds(name: str, settings: dict[str, Any], expected: Adapter) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--adapter", type=Adapter)
    given = {"adapter": {"class_path": f"src.backbones.adapters.{name}", "init_args": settings}}
    assert parser.instantiate_classes(parser.parse_object(given)).adapter == expected
