"""Flags of a LightningCLI command line: `--key value`, `--key=value`, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from src.core.errors import CommandLineError

CONFIG = ("--config", "-c")
_FLAG = re.compile(r"^--([^\W\d][\w.-]*\+?)(?==|$)")

USAGE = """python -m src {command} --config X.yaml [--key value ...]

  python -m src {command} --config X.yaml --trainer.max_steps 100 --trainer.default_root_dir runs/mine
  python -m src {command} --config X.yaml --model.init_args.objectives.local.init_args.weight 0
  python -m src {command} --model.help src.pretraining.ContinualPretraining
  python -m src {command} --config X.yaml --trainer.logger Wandb    (or TensorBoard; metrics.csv is always written)
"""


def flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each flag, without dashes, and its value or the following word."""
    for word, after in zip(arguments, [*arguments[1:], None], strict=False):
        if re.match(r"--?[A-Za-z_]", word):
            flag, equals, value = word.lstrip("-").partition("=")
            yield flag, value if equals else after


def config_files(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the configuration files of a command line."""
    for flag, value in flags(arguments):
        if flag in ("config", "c") and value is not None:
            yield value


def config_first(arguments: Sequence[str]) -> list[str]:
    """Return a command line with its configuration files first, so that flags win at any position.

    jsonargparse applies files and flags in order: a file would silently override the flags before it.

    Args:
        arguments: The command's name and its options.
    """
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments[1:])
    for word in words:
        if word in CONFIG:
            first += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            (first if word.partition("=")[0] in CONFIG else rest).append(word)
    return [*arguments[:1], *first, *rest]


def check_config_given(arguments: Sequence[str]) -> None:
    """Refuse a command without a configuration.

    Args:
        arguments: The command's name and its options.

    Raises:
        CommandLineError: With the place of configurations, a resumed run's own one, or the correct spelling of
            `--config`.
    """
    command, given = arguments[0], dict(flags(arguments[1:]))
    if given.keys() & {"config", "c", "model", "h", "help"} or any(name.endswith(".help") for name in given):
        return
    if meant := get_close_matches("config", given, n=1, cutoff=0.7):
        raise CommandLineError(f"no flag --{meant[0]}, did you mean '--config'?")
    checkpoint = given.get("ckpt_path")
    if checkpoint in (None, "last", "best"):
        raise CommandLineError(
            f"{command}: expected --config FILE.yaml, found no configuration; python -m src list shows those that "
            "come with this project, and a run folder keeps its own in config.yaml"
        )
    folder = Path(checkpoint or "").parent
    file = (folder.parent if folder.name == "checkpoints" else folder) / "config.yaml"
    there = "" if file.is_file() else ", if the checkpoint is still in its run folder"
    raise CommandLineError(
        f"{command}: expected --config FILE.yaml as well, a checkpoint holds no configuration; add --config "
        f"{file}{there}"
    )


def underscored(arguments: Sequence[str]) -> list[str]:
    """Return a command line with underscores for hyphens in argument names, as in `--trainer.max-steps`.

    Names of arguments are the first two parts of a flag and each part after `init_args`; other parts may be keys of a
    mapping, such as names of objectives, and keep their hyphens.
    """
    return [
        _FLAG.sub(lambda match: f"--{_underscored(match[1])}", word) if word.startswith("--") else word
        for word in arguments
    ]


def _underscored(flag: str) -> str:
    parts = flag.split(".")
    names = [part.replace("-", "_") for part in parts]
    return ".".join(
        name if index < 2 or names[index - 1] == "init_args" else part
        for index, (part, name) in enumerate(zip(parts, names, strict=True))
    )
