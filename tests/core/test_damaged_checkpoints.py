"""Damaged resume checkpoints: 0 silent, 0 tracebacks, and no advice to run code out of them."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.callbacks.checkpoint_io import AtomicCheckpointIO
from src.core.checkpoint_files import load_checkpoint, save_checkpoint
from src.core.content_hash import content_hash
from src.core.errors import UserError


def content() -> dict[str, Any]:
    state = {f"layer{index}.weight": torch.arange(120.0).view(40, 3) + index for index in range(4)}
    groups = [{"state": {0: {"exp_avg": torch.ones(7)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}]
    return {"global_step": 3, "pytorch-lightning_version": "2.5.0", "state_dict": state, "optimizer_states": groups}


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def under_fresh_checksums(part: str) -> Callable[[bytes, random.Random], bytes]:
    """One bit of the pickle or of the tensors, and an archive whose own checks pass."""

    def change(data: bytes, draw: random.Random) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            names = [entry for entry in old.namelist() if part in entry]
            hit = draw.choice(names)
            for entry in old.namelist():
                new.writestr(entry, flip(old.read(entry), draw) if entry == hit else old.read(entry))
        return out.getvalue()

    return change


DAMAGES = {
    "bit": (flip, 150),
    "cut": (cut, 40),
    "pickle": (under_fresh_checksums("data.pkl"), 150),
    "tensors": (under_fresh_checksums("/data/"), 40),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_refused_or_has_lost_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, expected = tmp_path / "last.ckpt", content_hash(content())
    save_checkpoint(content(), path)
    whole, draw = path.read_bytes(), random.Random(0)
    damage, count = DAMAGES[kind]
    refused = 0
    for _ in range(count):
        path.write_bytes(damage(whole, draw))
        try:
            found = content_hash(AtomicCheckpointIO().load_checkpoint(path, weights_only=True))
        except UserError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error) and "weights_only" not in str(error)
        else:  # only the name of the hash's own entry was hit, which is told; or bytes that say nothing
            assert found == expected or "has no hash" in capsys.readouterr().err
        capsys.readouterr()
    assert refused > count / 2


def of_another_tool(path: Path) -> None:
    torch.save({"model": {"weight": torch.ones(2)}, "epoch": 3}, path)


def with_code(path: Path) -> None:
    torch.save({"state_dict": {}, "config": Path("x")}, path)


def wrong_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"text")


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10_000_000))


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("epoch 3"), "not a checkpoint"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "list": (lambda path: torch.save([1], path), "holds a list"),
    "old format": (lambda path: torch.save({}, path, _use_new_zipfile_serialization=False), "not a checkpoint"),
    "another tool's": (of_another_tool, "expected a run's checkpoint .* found a file of 'model', 'epoch'"),
    "code": (with_code, "its pickle calls pathlib"),
    "wrong archive": (wrong_archive, "is damaged or not a checkpoint"),
    "compressed": (compressed, "compressed or overlapping"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_of_a_run_is_said_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write, expected = OTHERS[kind]
    write(path)
    with pytest.raises(UserError, match=expected) as caught:
        AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_values_changed_under_a_whole_archive_fall_back_to_the_previous_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.ckpt"
    for step in (1, 2):
        save_checkpoint(content() | {"global_step": step}, path)
    path.write_bytes(under_fresh_checksums("/data/")(path.read_bytes(), random.Random(1)))
    assert load_checkpoint(path)["global_step"] == 1
    assert "is damaged (expected content with hash" in capsys.readouterr().err
