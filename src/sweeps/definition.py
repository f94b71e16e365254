"""A sweep file in wandb's own format, read and checked."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src.config.hashing import digest
from src.config.nearest import nearest
from src.config.right_command import check_command
from src.config.sweep_arguments import flags
from src.config.yaml_reader import read
from src.core.errors import UserError
from src.sweeps.parameters import Parameter, parameter

_KEYS = {
    "program", "method", "metric", "parameters", "command", "early_terminate", "run_cap",
    "name", "description", "project", "entity",
}  # fmt: skip
_DEFAULT_COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]  # wandb's
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Rungs:
    """`early_terminate`, hyperband: after `first` logged values, and each time `factor` times as many, a trial has to
    be in the best 1/`factor` of those that came so far."""

    first: int
    factor: int


@dataclass(frozen=True)
class Sweep:
    """Search space, search method and command of a sweep."""

    file: Path
    name: str
    method: Literal["grid", "random", "bayes"]
    metric: str
    goal: Literal["minimize", "maximize"]
    parameters: dict[str, Parameter]  # dotted keys; nested `parameters` are joined
    program: str
    template: tuple[str, ...]  # the command with its macros
    rungs: Rungs | None
    run_cap: int | None
    fingerprint: str  # of all that decides which trials belong together

    @classmethod
    def read(cls, file: Path) -> "Sweep":
        """Reads a sweep.

        Raises:
            FileNotFoundError, ValueError: if there is none, or something in it is wrong; the message names the file.
        """
        content = read(file)
        check_command(file, content, "sweep")
        try:
            return _checked(file, content)
        except ValueError as error:
            raise UserError(f"{file}: {error}") from None

    def command(self, values: Mapping[str, Any]) -> list[str]:
        """The words of a trial's command: wandb's macros filled in, the parameters as YAML instead of Python.

        ``${args_no_hyphens}`` and the other spellings of the parameters are for programs of another kind and are
        refused when the file is read.
        """
        arguments = [flag for key, value in values.items() for flag in flags(key, value)]
        macros = {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": [self.program]}
        words: list[str] = []
        for part in self.template:
            macro = part[2:-1] if part.startswith("${") and part.endswith("}") else None
            if macro == "args":
                words += arguments
            elif macro in macros:
                words += macros[macro]
            else:
                words.append(_VARIABLE.sub(lambda match: os.environ.get(match[1], match[1]), part))
        return words


def several_processes(gpus: int) -> list[str]:
    """Options of a fit for a process on each GPU; none for a single one, where the file's own count."""
    return [f"--trainer.devices={gpus}"] if gpus > 1 else []


def _checked(file: Path, content: dict[str, Any]) -> Sweep:
    for key in sorted(content.keys() - _KEYS):
        raise UserError(f"no key {key!r}{nearest(key, _KEYS)}")
    for key in ("program", "method", "metric", "parameters"):
        if not content.get(key):
            raise UserError(f"lacks {key}; see docs/sweeps.md")
    method, metric = content["method"], content["metric"]
    if method not in ("grid", "random", "bayes"):
        raise UserError(f"method should be grid, random or bayes, found {method!r}")
    if not isinstance(metric, dict) or not metric.get("name"):
        raise UserError(f"metric should be a mapping with name and goal, found {metric!r}")
    goal = metric.get("goal", "minimize")  # wandb's default
    if goal not in ("minimize", "maximize"):
        raise UserError(f"metric.goal should be minimize or maximize, found {goal!r}")
    parameters = {key: parameter(key, entry) for key, entry in _flattened(content["parameters"])}
    if method == "grid" and (endless := [key for key, found in parameters.items() if found.grid() is None]):
        raise UserError(f"a grid needs values, whole numbers or q_uniform, which {', '.join(endless)} are not")
    template = tuple(map(str, content.get("command") or _DEFAULT_COMMAND))
    if "${args}" not in template or any(part.startswith("${args_") for part in template):
        raise UserError("command should hold ${args}, and no other spelling of the parameters")
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise UserError(f"run_cap should be a whole number from 1, found {cap!r}")
    # keys that are not hashed may change during a sweep
    searched = {key: content[key] for key in content.keys() - {"name", "description", "project", "entity", "run_cap"}}
    return Sweep(
        file=file,
        name=str(content.get("name") or file.stem),
        method=method,
        metric=metric["name"],
        goal=goal,
        parameters=parameters,
        program=str(content["program"]),
        template=template,
        rungs=_rungs(content.get("early_terminate")),
        run_cap=cap,
        fingerprint=digest(searched),
    )


def _flattened(entries: Any, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(entries, dict):
        raise UserError(f"parameters{'.' + above.rstrip('.') if above else ''} should be a mapping, found {entries!r}")
    for key, entry in entries.items():
        if isinstance(entry, dict) and "parameters" in entry:
            yield from _flattened(entry["parameters"], f"{above}{key}.")
        elif isinstance(entry, dict):
            yield f"{above}{key}", entry
        else:
            raise UserError(f"parameter {above}{key} should be a mapping such as {{value: {entry!r}}}")


def _rungs(content: Any) -> Rungs | None:
    """Either `min_iter`, where the first rung is, or `max_iter` with `s` rungs below it."""
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("type") != "hyperband":
        raise UserError(f"early_terminate should be a mapping with type: hyperband, found {content!r}")
    for key in sorted(content.keys() - {"type", "min_iter", "max_iter", "s", "eta", "strict"}):
        raise UserError(f"early_terminate: no key {key!r}")
    factor = content.get("eta", 3)
    if not isinstance(factor, int) or factor < 2:
        raise UserError(f"early_terminate.eta should be a whole number from 2, found {factor!r}")
    if "min_iter" in content:
        first = content["min_iter"]
    elif "max_iter" in content and "s" in content:
        first = content["max_iter"] // factor ** content["s"]
    else:
        raise UserError("early_terminate needs min_iter, or max_iter and s")
    if not isinstance(first, int) or first < 1:
        raise UserError(f"early_terminate: the first rung should be at 1 logged value or later, found {first!r}")
    return Rungs(first, factor)
