"""``python -m src ledger``: check that results in README and docs agree with the published files."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.commands.options import OptionParser
from src.core.errors import MissingFile
from src.studies.results.ledger import check


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    result = OptionParser(
        prog="python -m src ledger",
        description="Compares the results in README.md and docs/ with the files their marks name: docs/results.md.",
    )
    result.add_argument("root", nargs="?", type=Path, default=Path(), help="the folder that holds README.md (.)")
    return result


def main(arguments: Sequence[str]) -> None:
    """Check the documents.

    Raises:
        MissingFile: if there is no README.md.
        SystemExit: with code 1 if a number disagrees with its file, or an mIoU has no mark.
    """
    root = parser().parse_args(list(arguments)).root
    readme = root / "README.md"
    if not readme.is_file():
        raise MissingFile(f"{readme}: no such file; give the folder that holds README.md and results/")
    files = [readme, *sorted((root / "docs").rglob("*.md"))]
    agreed, findings = check(files, root)
    for finding in findings:
        print(finding)
    print(f"{agreed} marks in {len(files)} documents agree with results/, {len(findings)} lines do not")
    if findings:
        raise SystemExit(1)
