"""A sweep's parameters on the command line: how `wandb agent` writes them, and how this command line reads them.

The agent passes ``--key=str(value)``: Python's spelling, where ``None``, ``True``, ``['a', None]`` and, for nested
parameters, a whole ``{'lr': 0.1}`` appear. Configurations are read as YAML, to which ``None`` is a word.
"""

import ast
import json
from collections.abc import Sequence
from typing import Any

from src.core.errors import UserError


def flags(key: str, value: Any) -> list[str]:
    """A value as options of this command line: ``--key=value`` with a YAML value, a mapping as one for each leaf.

    Text is passed as it is, so the text ``true`` reads as a boolean, as on every command line here.

    Raises:
        UserError: for a null that the command line cannot take.
    """
    if isinstance(value, dict) and value:
        return [flag for name, item in value.items() for flag in flags(f"{key}.{name}", item)]
    if value is None and "init_args" in key.split(".")[:-1]:
        return [_null_below_a_class(key)]
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"]


def _null_below_a_class(key: str) -> str:
    """A null as a mapping, which is merged: jsonargparse would hand a flag's null on to the inner class as ``None``,
    a word. Objects in a mapping, such as ``objectives.local``, would lose their neighbours in it, so that is refused.
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
    """The agent's options as options of this command line.

    What Python would not read as None, a truth value, a list or a mapping stays as it is: numbers and words are written
    alike in both. A text ``None`` cannot be told from the value; both become null.
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
