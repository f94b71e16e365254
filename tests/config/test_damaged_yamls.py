"""Damaged configurations, through the real command line: refused with one message, never a traceback, never silent."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.__main__ import main
from src.cli import CLI
from src.config.composition import override
from tests.command_line import pretraining, segmentation, written

CONFIGS = {"pretrain": pretraining, "segment": segmentation}
VALUES = {
    "mapping": {"x": 1}, "text": "abc", "nan": math.nan, "negative": -1, "list": [[1]], "huge": 10**30, "zero": 0,
    "empty": "", "infinite": math.inf,
}  # fmt: skip
SECTIONS = {"null": None, "a list": [1], "a text": "abc", "a number": 5, "true": True}
EACH = 2  # damages of each key that continuous integration tries; the slow test tries all

# Damages after which the configuration still says something that can be done.
SOUND = {
    ("seed_everything", "zero"),
    ("trainer.max_steps", "negative"),  # −1: without end, as Lightning has it
    ("trainer.max_steps", "huge"),
    ("trainer.log_every_n_steps", "huge"),  # never
    ("monitor.every_n_steps", "zero"),  # not watched
    ("monitor.every_n_steps", "huge"),  # before and after training alone
    ("data.init_args.num_workers", "zero"),  # loads in the main process
    ("optimisation.lr", "zero"),
    ("guards.patience", "huge"),
    ("trainer.default_root_dir", "empty"),  # the current folder
    ("data.init_args.batch_size", "huge"),  # no more than the images, which a line says
    ("guards.patience", "zero"),  # warns and never stops
    ("model.init_args.objectives", "null"),  # GLARE's three
    *(("trainer.default_root_dir", value) for value in ("text", "negative", "zero", "huge", "nan", "infinite")),
    *((f"trainer.{switch}", "zero") for switch in ("enable_model_summary", "enable_progress_bar")),
    *((f"{part}.init_args.weight", value) for part in ("global", "regional", "local") for value in ("zero",)),
}


def leaves(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else name)
    else:
        yield key


def sections(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        if key:
            yield key
        for name, value in node.items():
            yield from sections(value, f"{key}.{name}" if key else name)


def damages(task: str) -> list[tuple[str, str, Any]]:
    config = CONFIGS[task](Path("run"))
    return [
        *((key, name, value) for key in leaves(config) for name, value in VALUES.items()),
        *((key, name, value) for key in sections(config) for name, value in SECTIONS.items()),
    ]


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that would have been run, with everything built."""
    started: list[str] = []
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, name: started.append(name))
    return started


def outcome(path: Path, started: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """`accepted`, `refused`, or what is wrong with the answer."""
    started.clear()
    code = main(["fit", "--config", str(path)])
    told = capsys.readouterr().err
    if "Traceback" in told:
        return f"a traceback: {told.strip().splitlines()[-1]}"
    if code == 0:
        return "accepted" if started else "neither ran nor refused"
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    return "refused" if code in (1, 2) and len(lines) == 1 and len(lines[0]) > 20 else f"exit code {code}: {told}"


def wrong_answers(
    task: str, chosen: list[tuple[str, str, Any]], folder: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> list[str]:
    wrong = []
    for key, name, value in chosen:
        config = override(copy.deepcopy(CONFIGS[task](folder / "run")), {key: value})
        found = outcome(Path(written(folder / "x.yaml", config)), started, capsys)
        sound = any(key.endswith(end) and name == which for end, which in SOUND)
        if found != "refused" and not (found == "accepted" and sound):
            wrong.append(f"{key}: {name}: {found}")
    return wrong


@pytest.mark.parametrize("task", CONFIGS)
@pytest.mark.parametrize("each", [EACH, pytest.param(None, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_wrong_values_are_refused(
    task: str,
    each: int | None,
    tmp_path: Path,
    nothing_runs: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few wrong values of every key, or all of them."""
    monkeypatch.chdir(tmp_path)
    by_key: dict[str, list[tuple[str, str, Any]]] = {}
    for damage in random.Random(0).sample(every := damages(task), len(every)):
        by_key.setdefault(damage[0], []).append(damage)
    chosen = [damage for of_key in by_key.values() for damage in of_key[:each]]
    assert wrong_answers(task, chosen, tmp_path, nothing_runs, capsys) == []


def test_cut_off_and_flipped_files_end_in_no_traceback(
    tmp_path: Path, nothing_runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = yaml.safe_dump(segmentation(tmp_path / "run"), sort_keys=False).encode()
    draw = random.Random(1)
    files = [whole[: len(whole) * part // 8] for part in range(8)]
    for _ in range(16):
        place = draw.randrange(len(whole))
        files.append(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
    files += [b"\x89PNG\r\n\x1a\n" + bytes(64), whole.decode().encode("utf-16"), b"\0" * 64, b"- a\n- b\n", b"5\n"]
    answers = []
    for content in files:
        (tmp_path / "x.yaml").write_bytes(content)
        answers.append(outcome(tmp_path / "x.yaml", nothing_runs, capsys))
    assert set(answers) <= {"accepted", "refused"}
    assert answers[0] == "refused" and answers[-5:] == ["refused"] * 5


@pytest.mark.parametrize("spoilt", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_files_of_other_editors_are_read(
    spoilt: Any, tmp_path: Path, nothing_runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = spoilt(yaml.safe_dump(segmentation(tmp_path / "run"), sort_keys=False))
    (tmp_path / "x.yaml").write_bytes(text.encode())
    assert outcome(tmp_path / "x.yaml", nothing_runs, capsys) == "accepted"


@pytest.mark.parametrize("kind", ["a picture", "a folder", "nothing"])
def test_what_is_no_configuration_is_named(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    if kind == "a picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    elif kind == "a folder":
        path.mkdir()
    assert main(["fit", "--config", str(path)]) == 2
    told = capsys.readouterr().err
    said = {"a picture": "UTF-8 text, found the byte 0x89", "a folder": "a folder", "nothing": "no such file"}[kind]
    assert told.startswith("error: ") and str(path) in told and said in told and told.count("\n") == 1
