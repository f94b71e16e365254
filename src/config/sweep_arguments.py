"""Convert sweep parameters from `wandb agent`'s form to this command line's.

The agent passes ``--key=str(value)``: Python's spelling, where ``None``, ``True``, ``['a', None]`` and, for nested
parameters, a whole ``{'lr': 0.1}`` appear. Configurations are read as YAML, where ``None`` is a plain word.
"""

import ast
import json
from collections.abc import Sequence
from typing import Any

from src.core.errors import UserError, wrong_command_line

_NULLS = ("null", "Null", "NULL", "~")  # as YAML spells it


def flags(key: str, value: Any) -> list[str]:
    """Options for a value: ``--key=value`` with a YAML value; for a mapping one per leaf.

    Text is passed as it is, so the text ``true`` reads as a boolean, as on every command line here.

    Raises:
        UserError: for a null that cannot be passed.
    """
    if isinstance(value, dict) and value:
        return [flag for name, item in value.items() for flag in flags(f"{key}.{name}", item)]
    if value is None and "init_args" in key.split(".")[:-1]:
        return [_null_below_a_class(key)]
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"]


def with_nulls(arguments: Sequence[str]) -> list[str]:
    """Return a command line whose nulls are nulls, also among the arguments of a class within a class.

    Raises:
        CommandLineError: For a null of one of several objects, which would cost the others.
    """
    result: list[str] = []
    words = iter(arguments)
    for word in words:
        key, equals, value = word.partition("=")
        if not (key.startswith("--") and key.count(".init_args.") > 1):
            result.append(word)
            continue
        text = value if equals else next(words, None)
        if text in _NULLS:
            with wrong_command_line():
                result.append(_null_below_a_class(key.removeprefix("--")))
        else:
            result += [word] if equals or text is None else [word, text]
    return result


def _null_below_a_class(key: str) -> str:
    """Option for a null as a mapping, which is merged: jsonargparse would pass a flag's null to the inner class as the
    text ``None``. Refused for objects in a mapping, such as ``objectives.local``, whose siblings it would drop.
    """
    top, *classes = key.split(".init_args.")
    if any("." in name for name in classes[:-1]):
        raise UserError(f"{key}: null cannot be passed on a command line to one of several objects; put it in the yaml")
    names = ".init_args.".join(classes).split(".")
    value: dict[str, Any] | None = None
    for name in reversed(names):
        value = {name: value}
    return f"--{top}.init_args={json.dumps(value)}"


def from_agent(arguments: Sequence[str]) -> list[str]:
    """Convert the agent's options to options of this command line.

    Only None, booleans, lists and mappings change: numbers and words are written alike in both. A text ``None`` cannot
    be distinguished from the value; both become null.
    """
    result: list[str] = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        try:
            value = ast.literal_eval(text) if key.startswith("--") and equals else text
        except (ValueError, SyntaxError):
            value = text
        if value is None or isinstance(value, bool | list | tuple | dict):
            result += flags(key.removeprefix("--"), value)
        else:
            result.append(argument)
    return result
