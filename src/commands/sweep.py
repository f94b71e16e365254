"""``python -m src sweep FILE``: hyper-parameter search in wandb's format, on its server or locally (``--local``)."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from src.commands.options import OptionParser, whole_number
from src.config.injection import COMMAND_LINE_ONLY
from src.config.keys import as_parsed, fit_keys
from src.config.prerequisites import check_writable
from src.config.suggestions import misspelt
from src.config.yaml_reader import read
from src.core.errors import CommandLineError, UserError, wrong_command_line
from src.core.names import path_part
from src.studies.run.allocation import add_options, allocation
from src.studies.run.runner import visible_accelerators
from src.sweeps.definition import Sweep, several_processes
from src.sweeps.parameters import LowEnd


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src sweep",
        description="Creates the sweep on wandb's server and starts an agent; --local searches here, without a server.",
    )
    result.add_argument("file", type=Path, help="the sweep, such as experiments/sweeps/glare-lr.yaml")
    result.add_argument(
        "--local", action="store_true", help="no server: Optuna, trials in --out; resumes if interrupted"
    )
    result.add_argument("--out", type=Path, help="folder of a local sweep (runs/sweeps/NAME)")
    result.add_argument("--jobs", type=whole_number(1), default=8, help="trials at a time with --launcher submitit (8)")
    result.add_argument(
        "--trials", type=whole_number(1), help="total number of trials (the file's run_cap; a grid is finite)"
    )
    add_options(result, "trial")
    return result


def main(arguments: Sequence[str]) -> None:
    """Run a sweep.

    Raises:
        CommandLineError: if an option or the sweep is wrong, or there is neither an account nor --local.
        KeyboardInterrupt: after Ctrl-C, when the running trial has written its checkpoint.
        SystemExit: with code 1 if a local trial failed; the others have run, and the table lists it.
    """
    options = parser().parse_args(list(arguments))
    resources = allocation(options, len(visible_accelerators()))
    if options.launcher == "submitit" and not options.local:
        raise CommandLineError("--launcher submitit: only with --local; jobs that run `wandb agent` need no launcher")
    with wrong_command_line():
        sweep = Sweep.read(options.file)
        check_command(sweep)
    limit = options.trials or sweep.run_cap
    if options.local:
        if limit is None and sweep.method != "grid":
            raise CommandLineError(f"a {sweep.method} search is endless: give --trials N, or run_cap in {options.file}")
        with wrong_command_line():
            folder = options.out or Path("runs/sweeps") / path_part(sweep.name, f"{options.file}, name")
        check_writable(folder, "--out")
        if options.launcher == "submitit":
            from src.sweeps.submission import submit  # Optuna and submitit are optional extras

            print(submit(options.file, folder, limit, resources, options.jobs))
            return
        from src.sweeps.local import run

        failed = run(sweep, folder, limit, options=several_processes(resources.gpus))
        print(f"{folder / 'table.md'}  (table.csv and parallel.svg in the same folder)")
        if failed:
            print(f"{failed} trials failed; see the table")
            raise SystemExit(1)
    else:
        on_server(options.file, limit)


def check_command(sweep: Sweep) -> None:
    """Refuse a sweep of other commands than this project's fits, of misspelt keys, or of options reserved for the
    command line.

    Raises:
        UserError: with the file and the expected content.
    """
    words = [part for part in sweep.template if part != "${env}"]
    if words[:4] != ["${interpreter}", "-m", "${program}", "fit"] or sweep.program != "src":
        raise UserError(
            f"{sweep.file}: expected program: src and a command that begins with ${{env}}, ${{interpreter}}, -m, "
            f"${{program}}, fit, found program {sweep.program} and command {' '.join(sweep.template)}"
        )
    for key in (*sweep.parameters, *(word.lstrip("-") for word in words[4:])):
        if key.partition("=")[0] in COMMAND_LINE_ONLY:
            raise UserError(
                f"{sweep.file} sets {key.partition('=')[0]}, which can run code out of a checkpoint; remove it"
            )
    example = sweep.command({name: found.draw(LowEnd(), name) for name, found in sweep.parameters.items()})
    if wrong := misspelt(as_parsed(example[example.index("fit") :])[1:], fit_keys()):
        raise UserError(f"{sweep.file}: {wrong}")


def on_server(file: Path, limit: int | None) -> None:
    """Create the sweep and run its trials here until it ends; `wandb agent ID` joins from other machines."""
    # here, since Lightning takes seconds to import, and --local does not need it
    from src.callbacks.weights_and_biases import reachable

    if not reachable():
        raise CommandLineError(
            "no wandb account or no answer from its server (`wandb login` sets one up); to search without it: python "
            f"-m src sweep {file} --local"
        )
    import wandb

    # the agent starts `/usr/bin/env python`, which has to be this interpreter
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    content = {"name": file.stem, "project": "glare", **read(file)}
    where = {"project": content["project"], "entity": content.get("entity")}
    wandb.agent(wandb.sweep(content, **where), **where, count=limit)
