"""``python -m src list [WORD …]``: list this project's experiments from the headers of their files."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.commands.options import OptionParser
from src.core.atomic_files import write_text
from src.core.errors import CommandLineError, UserError
from src.core.import_path import HOME

FOLDER = HOME / "experiments"
MARK = "<!-- The rest is made by: python -m src list --update -->"
SECTIONS = {
    "Tutorial": "tutorial.yaml",
    "Pre-training": "pretrain/*/*.yaml",
    "Segmentation": "segment/*/*.yaml",
    "Studies": "studies/*.yaml",
    "Sweeps": "sweeps/*.yaml",
}


@dataclass(frozen=True)
class Experiment:
    """One experiment, as described by its file's header.

    Attributes:
        file: Path from the root of the repository.
        purpose: First sentence of the header.
        cost: Time and memory.
        result: How to tell that it worked.
        authors: True for the authors' own study, kept as the record of a result or a choice.
    """

    file: Path
    purpose: str
    cost: str
    result: str
    authors: bool


def experiments() -> dict[str, list[Experiment]]:
    """Return the experiments of each section, in the order of their paths.

    Raises:
        UserError: If a header lacks a part.
    """
    return {title: [described(path) for path in sorted(FOLDER.glob(pattern))] for title, pattern in SECTIONS.items()}


def described(path: Path) -> Experiment:
    """Read a file's header: purpose, a blank line, commands, then GOOD, COST and perhaps AUTHORS.

    Raises:
        UserError: With the file and the missing part.
    """
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    parts: dict[str, str] = {}
    for paragraph in "\n".join(lines).split("\n\n"):
        name = "PURPOSE" if not parts else ""
        for line in paragraph.splitlines():
            if found := re.match(r"([A-Z]{4,})  (.*)", line):
                name, line = found.groups()
            parts[name] = f"{parts.get(name, '')} {line.strip()}".strip()
    for name in ("PURPOSE", "GOOD", "COST"):
        if not parts.get(name):
            raise UserError(f"{path}: expected a header with its purpose, GOOD and COST, found no {name}")
    purpose, cost, result = (_first_sentence(parts[name]) for name in ("PURPOSE", "COST", "GOOD"))
    return Experiment(path.relative_to(HOME), purpose, cost, result, "AUTHORS" in parts)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?]) (?=[A-Z`])", text)[0]


def table() -> str:
    """Return all experiments as Markdown, a table for each section."""
    parts = []
    for title, found in experiments().items():
        parts += [f"## {title}", "", "| file | what it does | cost | result |", "| --- | --- | --- | --- |"]
        for item in found:
            link = f"[{item.file.relative_to('experiments')}]({item.file.relative_to('experiments').as_posix()})"
            purpose = f"**Authors' own study.** {item.purpose}" if item.authors else item.purpose
            cells = (link, purpose, item.cost, item.result)
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("")
    return "\n".join(parts)


def listing(words: Sequence[str], width: int) -> str:
    """Return the experiments whose path or purpose contains all words, for a terminal.

    Raises:
        CommandLineError: If there is none.
    """
    blocks = []
    for found in experiments().values():
        for item in found:
            text = f"{item.file.as_posix()} {item.purpose}".casefold()
            if all(word.casefold() in text for word in words):
                mark = "  (authors' own study)" if item.authors else ""
                said = (item.purpose, f"cost: {item.cost}", f"result: {item.result}")
                wrapped = [textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ") for line in said]
                blocks.append("\n".join([f"{item.file.as_posix()}{mark}", *wrapped]))
    if not blocks:
        raise CommandLineError(f"no experiment matches {' '.join(words)!r}; python -m src list shows all")
    return "\n\n".join(blocks)


def main(arguments: Sequence[str]) -> None:
    """Print the experiments, or update `experiments/README.md`."""
    parser = OptionParser(prog="python -m src list", description="Lists the experiments that come with this project.")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="show only experiments whose path or purpose contains it"
    )
    parser.add_argument("--update", action="store_true", help="write the tables of experiments/README.md")
    options = parser.parse_args(list(arguments))
    if not options.update:
        print(listing(options.words, min(shutil.get_terminal_size().columns, 120)))
        return
    readme = FOLDER / "README.md"
    text, mark, _ = readme.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise UserError(f"{readme}: expected the line {MARK}, found none")
    write_text(readme, f"{text}{MARK}\n\n{table()}")
