"""Check the keys of a complete configuration without a parser, to find misspelt ones before anything runs."""

from collections.abc import Sequence
from functools import cache

from src.config.composition import Config
from src.config.defaults import GROUPS, find_class
from src.config.experiment_files import located_arguments
from src.config.flags import config_first, underscored
from src.config.part_files import inlined
from src.config.renamed import current_arguments
from src.config.suggestions import accepted_arguments, misspelt_keys
from src.config.sweep_arguments import with_nulls
from src.core.errors import CommandLineError

_CLASSES = {**GROUPS, "checkpoint": "src.callbacks.checkpoint.RunCheckpoint"}
_PLAIN = ("config", "seed_everything", "model", "data", "ckpt_path", "weights_only", "verbose")


def as_parsed(arguments: Sequence[str]) -> list[str]:
    """Return a command line with current names, located files, underscores and nulls, configuration files first.

    Args:
        arguments: The command's name and its options.
    """
    return inlined(config_first(with_nulls(underscored(located_arguments(current_arguments(arguments))))))


@cache
def fit_keys() -> frozenset[str]:
    """Return the valid dotted keys of a configuration, down to the arguments of groups such as `trainer`."""
    keys = set(_PLAIN)
    for group, path in _CLASSES.items():
        find_class(path)  # imports it
        keys |= {f"{group}.{name}" for name in accepted_arguments(path) or ()}
    return frozenset(keys)


def check_keys(config: Config, where: str) -> None:
    """Refuse a configuration with a misspelt key.

    Args:
        config: A configuration.
        where: Its origin, for the message.

    Raises:
        CommandLineError: With the key and the nearest valid one.
    """
    for found in misspelt_keys(config, set(fit_keys())):
        raise CommandLineError(f"{where}: {found}")
