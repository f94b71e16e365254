"""``python -m src verdict RESULTS``: did it help, how certain is that, which classes changed, and at what cost?"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from src.commands.options import OptionParser
from src.core.printable import printable
from src.evaluation.significance import signed
from src.studies.results.verdicts import Judged, judged, read_table, recorded_together


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src verdict",
        description="Compares the rows of a study with its baseline over seeds and images. docs/verdict.md explains.",
    )
    result.add_argument("results", type=Path, metavar="RESULTS", help="a study's folder, such as runs/camvid")
    result.add_argument("--json", action="store_true", help="print JSON")
    return result


def main(arguments: Sequence[str]) -> None:
    """Print the verdict on each row and column.

    Raises:
        CommandLineError: if an option is wrong.
        FileNotFoundError, ValueError: if the folder holds no results, or results that cannot be compared.
    """
    options = parser().parse_args(list(arguments))
    found = judged(options.results)
    if options.json:
        print(json.dumps([as_json(item) for item in found], indent=2))
    else:
        together = [item["sentence"] for item in recorded_together(read_table(options.results))]
        print(printable("\n\n".join([*together, *map(text, found)]), lines=True))


def text(item: Judged) -> str:
    """Format a verdict as text; of a column that is only a part of one, its change."""
    change = item.verdict.miou
    part = f"{item.label}: {signed(change.difference)} mIoU ({signed(change.low)} to {signed(change.high)})."
    lines = [part if item.together else item.verdict.sentence(item.label), f"  {item.verdict.class_sentence()}"]
    if paid := item.cost.sentence():
        lines.append(f"  Cost: {paid}.")
    if item.recorded:
        lines.append("  As recorded in table.json: the confusion matrices of these cells are not available.")
    return "\n".join(lines)


def as_json(item: Judged) -> dict[str, object]:
    """Format a verdict as JSON values."""
    return {
        "label": item.label,
        "word": item.verdict.word,
        **asdict(item.verdict),
        "moved": list(item.verdict.moved),
        "recorded": item.recorded,
        "together": item.together,
        "cost": item.cost._asdict(),
    }
