"""Hashes of the files that a sweep's trials read, so that one table never mixes two states of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from src.config.composition import lookup
from src.config.hashing import by_content, digest, without_effect
from src.config.yaml_reader import read
from src.core.errors import UserError
from src.studies.run.same_data import contents
from src.sweeps.definition import Sweep

ROOT = "data.init_args.root"


def inputs(sweep: Sweep) -> dict[str, str]:
    """Hash what the command of a sweep names: its configurations (`configuration`) and their data (`data`).

    Settings that decide no result, such as loggers, and comments do not count; weights and adapters do, by content.

    Raises:
        UserError: If a configuration cannot be read.
    """
    words = sweep.command({})
    configs = [read(Path(os.path.expandvars(name))) for name in _values(words, "--config")]
    roots = [root for config in configs if (root := lookup(config, ROOT)) is not None]
    roots += _values(words, f"--{ROOT}")
    decisive = [{key: part for key, part in without_effect(config).items() if part != {}} for config in configs]
    found = {"configuration": digest(by_content(decisive))}
    if roots and (folder := Path(os.path.expandvars(str(roots[-1])))).is_dir():  # the last one counts
        found["data"] = contents(folder)
    return found


def check_inputs(found: dict[str, str], noted: dict[str, str], sweep: Sweep, folder: Path) -> None:
    """Compare the files that trials would read with those of the trials that are there.

    Args:
        found: What `inputs` gives now.
        noted: What it gave when the sweep was begun.
        sweep: The search, for the message.
        folder: Folder of the trials, for the message.

    Raises:
        UserError: If they differ.
    """
    if changed := [kind for kind in ("configuration", "data") if found.get(kind) != noted.get(kind)]:
        raise UserError(
            f"{folder} holds trials of {sweep.file} with other files: its {' and its '.join(changed)} changed since "
            "they ran; bring back what was there, or give another --out, so that no table mixes both"
        )


def _values(words: list[str], option: str) -> Iterator[str]:
    """The values of an option, given as one word or as two."""
    for place, word in enumerate(words):
        if word == option and place + 1 < len(words):
            yield words[place + 1]
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]
