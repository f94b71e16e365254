"""A sweep's parameters on the command line: how `wandb agent` writes them, and how this command line reads them.

The agent passes ``--key=str(value)``: Python's spelling, where ``None``, ``True``, ``['a', None]`` and, for nested
parameters, a whole ``{'lr': 0.1}`` appear. Configurations are read as YAML, to which ``None`` is a word.
"""

import ast
import json
from collections.abc import Sequence
from typing import Any


def flags(key: str, value: Any) -> list[str]:
    """A value as options of this command line: ``--key=value`` with a YAML value, a mapping as one for each leaf.

    A text stands as it is, so the text ``true`` reads as the truth value, as on every command line here.
    """
    if isinstance(value, dict) and value:
        return [flag for name, item in value.items() for flag in flags(f"{key}.{name}", item)]
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"]


def from_agent(arguments: Sequence[str]) -> list[str]:
    """The agent's options as options of this command line.

    What Python would not read as None, a truth value, a list or a mapping stays as it is: numbers and words are
    spelt alike in both. A text ``None`` cannot be told from the value; both become null.
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
