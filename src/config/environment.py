"""``${NAME}`` in a configuration's values: keep machine-specific paths out of the files."""

import os
import re
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from src.core.errors import CommandLineError

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def expand_environment(config: Any, key: str = "") -> Any:
    """Replace ``${NAME}`` in each text and path of `config` by the environment variable of that name, in place.

    It runs on the parsed configuration, not on the file: a flag that replaces the value needs no variable.

    Args:
        config: a configuration or a part of it.
        key: dotted name of that part, for the message.

    Returns:
        The part, expanded.

    Raises:
        CommandLineError: if the variable is not set, with the key that uses it.
    """
    below = f"{key}." if key else ""
    if isinstance(config, Namespace | dict):
        for name, item in list(vars(config).items() if isinstance(config, Namespace) else config.items()):
            config[name] = expand_environment(item, f"{below}{name}")
    elif isinstance(config, list):
        config[:] = [expand_environment(item, f"{below}{index}") for index, item in enumerate(config)]
    elif isinstance(config, str | Path):
        for name in _VARIABLE.findall(str(config)):
            if name not in os.environ:
                raise CommandLineError(
                    f"{key} is '{config}', but {name} is not set: put {name}=FOLDER before the command, or give --{key}"
                )
        return type(config)(_VARIABLE.sub(lambda match: os.environ[match[1]], str(config)))
    return config
