"""A processor without bfloat16 instructions is named before a fit takes days."""

from __future__ import annotations

import logging

import pytest
from lightning.pytorch import Trainer

from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.core import bfloat16
from src.core.bfloat16 import computes_bfloat16, warn_of_emulation
from src.pretraining import ContinualPretraining
from tests.tiny import TINY, tiny_head

OLD, NEW = "flags : fpu sse2 avx2 avx512f", "flags : fpu avx2 avx512_bf16 amx_tile"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(OLD, False), (NEW, True), ("flags : amx_bf16", True), ("Features : fp asimd bf16", True), ("", False)],
)
def test_instructions_are_found_among_the_flags(flags: str, expected: bool) -> None:
    assert computes_bfloat16(flags) == expected


@pytest.mark.parametrize(
    ("flags", "precision", "device", "warned"),
    [
        (OLD, "bf16-mixed", "cpu", True),
        (OLD, "bf16-true", "cpu", True),
        (OLD, "32-true", "cpu", False),
        (OLD, "bf16-mixed", "cuda", False),
        (NEW, "bf16-mixed", "cpu", False),
        ("", "bf16-mixed", "cpu", False),  # a system that lists none
    ],
)
def test_emulation_is_warned_of(
    flags: str,
    precision: str,
    device: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bfloat16, "processor_flags", lambda: flags)
    with caplog.at_level(logging.WARNING):
        warn_of_emulation(precision, device)
    assert ("use 32-true" in caplog.text) == warned


def test_a_fit_warns(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(bfloat16, "processor_flags", lambda: OLD)
    module = ContinualPretraining(Backbone(TINY, "none"), UniAdapter(rank=2), tiny_head())
    module.trainer = Trainer(accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False)
    with caplog.at_level(logging.WARNING):
        module.setup("fit")
    assert "no bfloat16 instructions" in caplog.text
