"""Resources of a cell, and the command-line options for them."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.core.errors import CommandLineError

LAUNCHERS = ("local", "submitit")
# Options that the submission sets itself, or that have their own flag.
_OURS = {
    "array": "--jobs bounds how many run at a time",
    "dependency": "cells wait for their prerequisites themselves",
    "error": "the logs are in RUNS/jobs",
    "gpus-per-node": "use --gpus-per-cell",
    "nodes": "use --nodes",
    "ntasks": "one task per node starts all its processes",
    "ntasks-per-node": "one task per node starts all its processes",
    "open-mode": "the logs are in RUNS/jobs",
    "output": "the logs are in RUNS/jobs",
    "partition": "use --partition",
    "requeue": "cells are always requeued",
    "signal": "cells write a checkpoint 90 seconds before --time runs out",
    "time": "use --time",
}
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class Allocation:
    """Resources of one cell or trial.

    Attributes:
        gpus: GPUs on each node, a process for each; 0 for nodes without.
        nodes: Nodes; more than one needs a cluster.
        minutes: Wall-clock limit of a job; what is longer is requeued and resumes.
        partition: SLURM's partition; None for the cluster's default.
        slurm: Further options of ``sbatch``, by name.
    """

    gpus: int = 0
    nodes: int = 1
    minutes: int = 24 * 60
    partition: str | None = None
    slurm: dict[str, str] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser, of: str) -> None:
    """Add the options of launcher and allocation to a command.

    Args:
        parser: The command's.
        of: Name of what is launched, such as cell.
    """
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help=f"local: here; submitit: each {of} as a SLURM job"
    )
    group.add_argument(f"--gpus-per-{of}", dest="gpus", type=int, metavar="N", help="GPUs on each node (1; 0: none)")
    group.add_argument("--nodes", type=int, metavar="N", help=f"nodes of a {of} (1)")
    group.add_argument("--time", metavar="T", help="limit of a job, as SLURM writes it; then it is requeued (24:00:00)")
    group.add_argument("--partition", metavar="NAME", help="SLURM's partition")
    group.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any further option of sbatch; may be repeated",
    )


def allocation(options: argparse.Namespace, gpus_here: int) -> Allocation:
    """Read the options that `add_options` has added.

    Args:
        options: What the command line says.
        gpus_here: GPUs of this machine.

    Raises:
        CommandLineError: If a value is out of range, or needs the other launcher.
    """
    cluster = options.launcher == "submitit"
    for flag, value, least in (("--gpus-per-…", options.gpus, 0), ("--nodes", options.nodes, 1)):
        if value is not None and value < least:
            raise CommandLineError(f"{flag}: expected at least {least}, found {value}")
    if not cluster:
        given = {"--time": options.time, "--partition": options.partition, "--slurm": options.slurm or None}
        given["--nodes"] = options.nodes if options.nodes not in (None, 1) else None
        if needless := [flag for flag, value in given.items() if value is not None]:
            raise CommandLineError(f"{', '.join(needless)}: only with --launcher submitit")
        if options.gpus is not None and options.gpus > gpus_here:
            raise CommandLineError(f"expected at most {gpus_here} GPUs, which this machine has, found {options.gpus}")
    usual = 1 if cluster else min(1, gpus_here)
    return Allocation(
        gpus=usual if options.gpus is None else options.gpus,
        nodes=options.nodes or 1,
        minutes=minutes(options.time or "24:00:00"),
        partition=options.partition,
        slurm=further(options.slurm),
    )


def minutes(text: str) -> int:
    """Read a time limit in one of SLURM's forms: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    Raises:
        CommandLineError: If it is in none of them, or no time at all.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise CommandLineError(f"--time: expected a time such as 90, 12:00:00 or 2-00:00:00, found {text!r}")
    days, *parts = (int(part or 0) for part in found.groups())
    given = sum(part is not None for part in found.groups()[1:])
    first, second, third = parts
    if found[1] is not None or given == 3:
        hours, mins, seconds = first, second, third
    else:
        hours, mins, seconds = 0, first, second
    total = (days * 24 + hours) * 60 + mins + (1 if seconds else 0)
    if total < 1:
        raise CommandLineError(f"--time: expected at least a minute, found {text!r}")
    return total


def further(entries: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` options of sbatch.

    Raises:
        CommandLineError: If one is written otherwise, or is set by the submission.
    """
    result: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        key = key.lstrip("-").replace("_", "-")
        if not key or not equals or not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value or "\n" in value:
            raise CommandLineError(f"--slurm: expected KEY=VALUE such as account=lab, found {entry!r}")
        if key in _OURS:
            raise CommandLineError(f"--slurm {entry}: {key} cannot be set here; {_OURS[key]}")
        result[key] = value
    return result
