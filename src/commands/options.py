"""Option parser of this project's commands: hyphens or underscores, errors in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from src.config.nearest import nearest
from src.core.errors import CommandLineError

_FLAG = re.compile(r"--?[^\W\d][\w-]*(?==|$)")  # not a negative number or a single dash


class OptionParser(argparse.ArgumentParser):
    """An argument parser without abbreviations.

    ``--max_steps`` and ``--max-steps`` are one option. A misspelt option or choice is reported with its nearest valid
    spelling, where the original prints a usage block and exits.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line in either spelling.

        Raises:
            CommandLineError: If an option is unknown, even if another one is missing.
        """
        assert args is not None, "the words of the command line are passed on from src.__main__"
        return super().parse_known_args(self._known(args), namespace)

    def _known(self, words: Sequence[str]) -> list[str]:
        end = words.index("--") if "--" in words else len(words)
        return [*map(self._spelt, words[:end]), *words[end:]]

    def _spelt(self, word: str) -> str:
        """A word of the command line; a flag in the spelling of the parser."""
        found = _FLAG.match(word)
        if found is None:
            return word
        flags = {_hyphens(name): name for name in self._option_string_actions}
        flag = flags.get(_hyphens(found[0]))
        if flag is None:
            names = [name.removeprefix("--") for name in flags if name.startswith("--")]
            self.error(f"no flag {found[0]}{nearest(_hyphens(found[0]).lstrip('-'), names, prefix='--')}")
        return flag + word[found.end() :]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"expected one of {', '.join(choices)}, found {value!r}{_meant(str(value), choices)}"
            )

    def error(self, message: str) -> NoReturn:
        """Raise the message that the original prints.

        Raises:
            CommandLineError: Always.
        """
        raise CommandLineError(f"{message}; see {self.prog} --help")


def whole_number(least: int) -> Callable[[str], int]:
    """Return an option type for whole numbers from `least` on."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, found {text!r}")
        return int(text)

    return read


def _hyphens(flag: str) -> str:
    return flag[:1] + flag[1:].replace("_", "-")


def _meant(word: str, choices: Sequence[str]) -> str:
    found = nearest(word, choices)
    return found if "did you mean" in found else ""  # the choices are in the message
