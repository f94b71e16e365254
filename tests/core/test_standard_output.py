"""A reader of the output that stops early, as ``head`` does, causes no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from src.__main__ import main
from src.core.errors import one_message
from src.core.standard_output import flush, reader_gone
from tests.command_line import ROOT


@pytest.mark.parametrize(("words", "buffering", "code"), [("list", 1, 141), ("--help", -1, 0)])  # in print, in flush
def test_a_closed_pipe_ends_a_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str, buffering: int, code: int
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=buffering) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main([words]) == code
        print("dropped", flush=True)
        monkeypatch.undo()
    assert capfd.readouterr().err == ""


def test_another_broken_pipe_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with one_message() as outcome:
        raise BrokenPipeError("a worker's")
    assert outcome.code == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_open_pipe_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream, open(reader) as other:
        monkeypatch.setattr(sys, "stdout", stream)
        print("kept")
        flush()
        assert not reader_gone()
        assert other.readline() == "kept\n"
        monkeypatch.undo()


@pytest.mark.parametrize("words", ["list", "list --help", "--help", "nonsense"])
def test_behind_head_there_is_no_traceback(words: str) -> None:
    command = f"{{ {sys.executable} -m src {words}; echo code $? >&2; }} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1] in (["code 2"] if words == "nonsense" else ["code 0", "code 141"])
