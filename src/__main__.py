"""Command-line entry point: ``python -m src COMMAND`` imports the requested command alone."""

import sys
from collections.abc import Sequence
from importlib import import_module

from src import __version__
from src.commands.parsers import PARSERS
from src.config.flags import check_config_given
from src.config.nearest import nearest
from src.core import standard_output
from src.core.errors import CommandLineError, one_message
from src.core.import_path import add_current_folder
from src.core.interruption import interrupt_on_notice

# name → (module, one line of help). Each module has `main(arguments)`; src.cli serves four, so it gets the name too.
COMMANDS: dict[str, tuple[str, str]] = {
    "adapt": ("src.commands.adapt.command", "adapt a backbone to a folder of images, with no configuration"),
    "segment": ("src.commands.segment", "segment a folder from a few masks: adapt, train a head, predict"),
    "evidence": ("src.commands.evidence", "compare frozen, GLARE and the calibrated preset on your weights and data"),
    "study": ("src.commands.study", "run a study: rows × seeds, from pre-training to its table and report"),
    "verdict": ("src.commands.verdict", "report whether adaptation helped, with its interval and cost"),
    "inspect": (
        "src.commands.inspect",
        "explain an adapted backbone on images: attention, regions, matches, neighbours",
    ),
    "sweep": ("src.commands.sweep", "search hyper-parameters: wandb's sweeps, or the same file without a server"),
    "fit": ("src.cli", "train from a yaml: continual pre-training or a segmentation head"),
    "validate": ("src.cli", "evaluate on the validation split"),
    "test": ("src.cli", "evaluate on the test split and write evaluation.json"),
    "predict": ("src.cli", "predict masks for images"),
    "list": ("src.commands.list_experiments", "list the experiments of this project and their cost"),
    "prepare": ("src.commands.prepare", "download, convert and verify a data set, or show how to get it"),
    "publish": ("src.commands.publish", "copy a study's tables and numbers from runs/ to results/"),
    "ledger": ("src.commands.ledger", "check that every result in README and docs matches results/"),
    "export": ("src.commands.export", "write an adapted backbone as ONNX, timm, Hugging Face or torch.export"),
    "push": ("src.commands.push", "share an adapter on the Hugging Face Hub"),
    "embed": ("src.commands.embed", "write the features of a folder of images to Parquet or NumPy files"),
    "doctor": ("src.commands.doctor", "identify a checkpoint file, check that it loads, and show how to use it"),
}


def usage() -> str:
    """Text of ``--help``: each command with its description."""
    lines = [f"  {name:<10}{line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "GLARE: continual self-supervised pre-training for segmentation",
            "",
            "usage: glare COMMAND [--help] …    (in a checkout also: python -m src COMMAND)",
            "",
            *lines,
            "",
            "glare --version prints the version.",
            "glare COMMAND --help shows the options of one command.",
            "GLARE_TRACEBACK=1 shows the full traceback of an error instead of its message.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``python -m src``; those of this process by default.

    Returns:
        The exit code: 0 done, 1 the input or the run failed, 2 the command line or a yaml is wrong, 130 interrupted (by
        Ctrl-C, SIGTERM or SIGUSR1), 141 the reader of the output, such as ``head``, has closed it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # a program of its own, so that it may handle signals
        interrupt_on_notice()
    with one_message() as outcome:
        outcome.code = _run(words)
    standard_output.flush()
    return outcome.code


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("--version", "version"):
        print(f"glare {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise CommandLineError(f"no command {words[0]!r}{nearest(words[0], COMMANDS)}; see python -m src --help")
    add_current_folder()
    module, _ = COMMANDS[words[0]]
    if words[0] in PARSERS:  # mistakes and --help, before torch is imported
        PARSERS[words[0]]().parse_args(words[1:])
    elif module == "src.cli":
        check_config_given(words)
    code = import_module(module).main(words if module == "src.cli" else words[1:])
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
