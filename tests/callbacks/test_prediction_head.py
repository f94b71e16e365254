"""The record of what predicted a folder's masks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jsonargparse import Namespace

from src.callbacks.prediction_head import head_record
from src.callbacks.run_folder import RunFolder


def record(checkpoint: Path | None = None, neighbours: int = 30, short_side: int | None = None) -> dict[str, str]:
    """The record of a probe's arguments, or of a checkpoint, on data that may resize images."""
    model = Namespace(class_path="src.probes.DenseKNN", init_args=Namespace(neighbours=neighbours))
    config = Namespace(ckpt_path=None if checkpoint is None else str(checkpoint), model=model)
    trainer: Any = SimpleNamespace(callbacks=[RunFolder(None, config)])  # type: ignore[arg-type]
    module: Any = SimpleNamespace(inference=None)
    transforms = None if short_side is None else SimpleNamespace(short_side=short_side)
    return head_record(trainer, module, SimpleNamespace(transforms=transforms), None)


def test_without_a_checkpoint_the_arguments_of_the_model_decide() -> None:
    assert record() == record()
    assert record(neighbours=5) != record()


def test_a_checkpoint_stands_for_its_model(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"head")
    known = record(tmp_path / "last.ckpt")
    assert known == record(tmp_path / "last.ckpt", neighbours=5)
    (tmp_path / "last.ckpt").write_bytes(b"another")
    assert record(tmp_path / "last.ckpt")["checkpoint"] != known["checkpoint"]


def test_the_size_of_the_images_counts() -> None:
    assert len({record(short_side=side)["settings"] for side in (None, 100, 200)}) == 3
