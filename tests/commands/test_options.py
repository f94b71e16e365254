"""One style for the options of all our commands: both spellings, suggestions, no torch before they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.__main__ import COMMANDS, main
from src.commands.options import OptionParser
from src.core.errors import CommandLineError
from tests.command_line import ROOT

OURS = [name for name, (module, _) in COMMANDS.items() if module != "src.cli"]


@pytest.fixture
def parser() -> OptionParser:
    result = OptionParser(prog="python -m src x")
    result.add_argument("file", type=Path)
    result.add_argument("--max-steps", type=int)
    result.add_argument("--on_error", choices=("raise", "skip"))
    result.add_argument("--learning-rate", type=float)
    return result


@pytest.mark.parametrize("steps", [["--max_steps", "-3"], ["--max-steps=-3"], ["--max_steps=-3"]])
@pytest.mark.parametrize("policy", [["--on_error", "skip"], ["--on-error=skip"]])
def test_hyphens_and_underscores_are_one(parser: OptionParser, steps: list[str], policy: list[str]) -> None:
    options = parser.parse_args(["a-b_c", *steps, *policy])
    assert (options.file, options.max_steps, options.on_error) == (Path("a-b_c"), -3, "skip")


def test_words_after_two_dashes_are_no_flags(parser: OptionParser) -> None:
    assert parser.parse_args(["--", "--a_file"]).file == Path("--a_file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_step", "3"], "no flag --max_step, did you mean '--max-steps'?; see python -m src x --help"),
        (["x", "--lr=3"], "no flag --lr, did you mean '--learning-rate'?"),
        (["x", "--max", "3"], "no flag --max"),
        (["x", "--on-error", "skp"], "expected one of raise, skip, found 'skp', did you mean 'skip'?"),
        (["x", "--max-steps", "many"], "invalid int value: 'many'"),
        ([], "the following arguments are required: file"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_spelling(parser: OptionParser, words: list[str], message: str) -> None:
    with pytest.raises(CommandLineError) as error:
        parser.parse_args(words)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("command", OURS)
def test_every_command_refuses_an_unknown_flag_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--hlep"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no flag --hlep, did you mean '--help'?") and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("command", OURS)
def test_every_option_of_a_command_is_read_in_both_spellings(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for flag in {word.strip(",[]") for word in text.split() if word.startswith(("--", "[--"))}:
        for spelling in {"--" + flag[2:].replace("-", "_"), "--" + flag[2:].replace("_", "-")} - {"--help"}:
            main([command, spelling, "--nonsense"])
            assert "no flag --nonsense" in capsys.readouterr().err, spelling


def test_options_are_read_before_torch_is_imported() -> None:
    check = f"""if True:
        import sys
        from src.__main__ import main
        for command in {OURS}:
            assert main([command, "--help"]) == 0, command
            assert main([command, "--nonsense"]) == 2, command
            heavy = {{"torch", "lightning", "timm"}} & sys.modules.keys()
            assert not heavy, f"{{command}} imports {{heavy}}"
        """
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
