"""A damaged adapter file is refused with one message: no silence, no traceback of another library, no hang."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.backbones.adapter_file import read_metadata, write_adapter
from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.errors import UserError
from tests.backbones.test_adapters import move
from tests.tiny import tiny_backbone

IMAGES = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
OLD_KEYS = ("backbone", "weight_hash", "adapter", "sizes", "step", "whose", "config_hash")


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    return tiny_backbone(monkeypatch)


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    made = tiny_backbone(monkeypatch)
    made.install(UniAdapter(rank=2))
    move(made)
    made.save_adapter(tmp_path / "good", 3, "teacher")
    return tmp_path / "good"


def old_format(file: Path, **changes: str) -> Path:
    """The same adapter as it was written before files carried hashes: format 1, bare class name."""
    metadata = {key: value for key, value in read_metadata(file).items() if key in OLD_KEYS}
    metadata |= {"format": "1", "adapter": metadata["adapter"].rpartition(".")[2]} | changes
    save_file(load_file(file), file.with_name("old"), metadata)
    return file.with_name("old")


def refuses(backbone: Backbone, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        backbone.load_adapter(path)
    assert backbone.adapter is None and backbone.trainable() == []
    return str(caught.value)


def test_every_flipped_bit_and_every_cut_is_refused(backbone: Backbone, good: Path, tmp_path: Path) -> None:
    content, chance = good.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    spots = [*range(0, header, 5), *range(header, len(content), 29)]
    damaged = tmp_path / "damaged"
    said = []
    for spot in spots:
        mutant = bytearray(content)
        mutant[spot] ^= 1 << chance.randrange(8)
        damaged.write_bytes(mutant)
        said.append(refuses(backbone, damaged))
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 5, len(content) - 1):
        damaged.write_bytes(content[:length])
        said.append(refuses(backbone, damaged))
    damaged.write_bytes(content + b"\0")
    said.append(refuses(backbone, damaged))
    assert len(said) > 300 and [message for message in said if str(damaged) not in message] == []


def test_flipped_bits_of_an_old_file_end_in_no_other_error(backbone: Backbone, good: Path, tmp_path: Path) -> None:
    content, chance = old_format(good).read_bytes(), random.Random(1)
    refused = 0
    for spot in range(0, 8 + int.from_bytes(content[:8], "little"), 4):
        mutant = bytearray(content)
        mutant[spot] ^= 1 << chance.randrange(8)
        (tmp_path / "mutant").write_bytes(mutant)
        try:
            backbone.load_adapter(tmp_path / "mutant")
        except UserError:
            refused += 1
        backbone.uninstall()
    assert refused > 0  # an old file has no hash, so that not every bit shows


def swapped(tensors: dict[str, torch.Tensor]) -> None:
    one, other = (f"trunk.blocks.{depth}.bottleneck.up.weight" for depth in (0, 1))
    tensors[one], tensors[other] = tensors[other], tensors[one]


def with_nan(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values())).view(-1)[0] = float("nan")


def whole_numbers(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = tensors[name].to(torch.int32)


def other_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = "trunk.blocks.0.bottleneck.up.weight"
    tensors[name] = tensors[name].T.contiguous()


def one_less(tensors: dict[str, torch.Tensor]) -> None:
    tensors.popitem()


def one_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["trunk.pos_embed"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (swapped, "hash"),
        (with_nan, "NaN or infinity"),
        (whole_numbers, "I32"),
        (other_shape, r"\[2, 32\]"),
        (one_less, "does not hold the tensors"),
        (one_more, "trunk.pos_embed"),
    ],
)
def test_changed_tensors_are_refused_by_name(
    change: Callable[[dict[str, torch.Tensor]], None], found: str, backbone: Backbone, good: Path, tmp_path: Path
) -> None:
    tensors = load_file(good)
    change(tensors)
    save_file(tensors, tmp_path / "changed", read_metadata(good))
    with pytest.raises(UserError, match=found):
        backbone.load_adapter(tmp_path / "changed")
    assert backbone.adapter is None


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": '{"rank": 1000000000000}'},
        {"sizes": '{"rank": 16384}'},
        {"sizes": '{"rank": 0}'},
        {"sizes": '{"rank": -2}'},
        {"sizes": '{"rank": "2"}'},
        {"sizes": '{"rank": 2, "scale": NaN}'},
        {"sizes": '{"rank": 2, "placement": "sidewards"}'},
        {"sizes": '{"rank": 2, "ranc": 3}'},
        {"sizes": "[" * 100_000},
        {"sizes": "9" * 5000},
        {"sizes": "[2]"},
        {"adapter": "LoRA"},
        {"adapter": "LastBlocks", "sizes": '{"count": 1000000000000000000000}'},
        {"adapter": "Adapter"},
        {"adapter": ""},
        {"adapter": "os.system"},
        {"adapter": "\x1b[31m.red"},
        {"adapter": "collections.OrderedDict"},
        {"adapter": "torch.nn.Linear", "sizes": '{"in_features": 2, "out_features": 2}'},
        {"weight_hash": "0"},
        {"format": "9"},
    ],
    ids=str,
)
def test_metadata_that_nobody_wrote_is_refused(changes: dict[str, str], backbone: Backbone, good: Path) -> None:
    message = refuses(backbone, old_format(good, **changes))
    assert message.isprintable()


def test_what_is_no_file_of_ours_is_refused(backbone: Backbone, good: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle")
    (tmp_path / "long header").write_bytes((1 << 60).to_bytes(8, "little") + good.read_bytes()[8:])
    (tmp_path / "text").write_text("adapter")
    save_file({"a": torch.zeros(2)}, tmp_path / "plain")
    assert "a folder is there" in refuses(backbone, tmp_path / "folder")
    assert "pickle is a PyTorch checkpoint; expected an adapter.safetensors" in refuses(backbone, tmp_path / "pickle")
    for name in ("long header", "text"):
        assert "not a safetensors file" in refuses(backbone, tmp_path / name)
    assert "no adapter metadata" in refuses(backbone, tmp_path / "plain")


@pytest.mark.parametrize("lacking", ["tensor_hash", "metadata_hash"])
def test_a_file_without_its_hash_is_accepted_only_as_the_old_format(
    lacking: str, backbone: Backbone, good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = read_metadata(good)
    del metadata[lacking]
    save_file(load_file(good), tmp_path / "stripped", metadata)
    assert f"no {lacking}" in refuses(backbone, tmp_path / "stripped")
    backbone.load_adapter(good)
    features = backbone(IMAGES).patches
    assert caplog.messages == []
    backbone.load_adapter(old_format(good))
    assert torch.equal(backbone(IMAGES).patches, features)
    assert ["before adapter files carried a hash" in message for message in caplog.messages] == [True]


def test_a_file_that_cannot_be_used_leaves_the_adapter_that_is_in(backbone: Backbone, good: Path) -> None:
    backbone.install(LoRA(rank=2))
    move(backbone)
    features = backbone(IMAGES).patches
    bad = old_format(good, sizes='{"rank": 3}')
    with pytest.raises(UserError, match=r"\[3, 32\]"):
        backbone.load_adapter(bad)
    assert backbone.adapter == LoRA(rank=2) and torch.equal(backbone(IMAGES).patches, features)


def test_equal_adapters_give_equal_bytes_and_metadata_in_order(good: Path, tmp_path: Path) -> None:
    tensors, metadata = load_file(good), read_metadata(good)
    write_adapter(tmp_path / "again", dict(reversed(metadata.items())), dict(reversed(tensors.items())))
    content = good.read_bytes()
    assert (tmp_path / "again").read_bytes() == content
    keys = list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"])
    assert keys == sorted(keys)


def test_comparing_a_file_with_the_backbone_draws_no_random_number(backbone: Backbone, good: Path) -> None:
    torch.manual_seed(0)
    backbone.install(UniAdapter(rank=2))
    after_install = torch.get_rng_state()
    backbone.uninstall()
    torch.manual_seed(0)
    backbone.load_adapter(good)
    assert torch.equal(torch.get_rng_state(), after_install)
