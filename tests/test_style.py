"""Docstrings parse, begin with a verb or a noun, and cite documents that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docstring_parser import ParseError, google

from tests.command_line import ROOT

FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")])
QUESTIONS = ("what", "where", "whether", "how")
HEADING = re.compile(r"^## (\d+) ", re.MULTILINE)
STATEMENT = re.compile(r"^(\d+)\. ", re.MULTILINE)
FENCED = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
CITED = re.compile(r"docs/[\w-]+\.md")
CITED_SECTIONS = re.compile(r"docs/method\.md,\s+(section|statement)s? (\d+)(?: (?:and|to) (\d+))?")


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for line, text in docstrings(file)
        if re.match(r"\W*(\w*)", text)[1].lower() in QUESTIONS  # type: ignore[index]
    ]
    assert not found, "begin with a verb or a noun:\n" + "\n".join(found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_parse(file: Path) -> None:
    """A continuation line with a wrong indent would leave the command line's help without any description."""
    assert [fault for line, text in docstrings(file) if (fault := parse_error(line, text))] == []


def parse_error(line: int, text: str) -> str:
    """The line and the error of a docstring that does not parse; empty for one that does."""
    try:
        google.parse(text)
    except ParseError as error:
        return f"{line}: {error}"
    return ""


def test_documents_that_the_code_cites_exist() -> None:
    cited = {name for file in FILES for name in CITED.findall(file.read_text(encoding="utf-8"))}
    assert "docs/method.md" in cited
    assert [name for name in sorted(cited) if not (ROOT / name).is_file()] == []


def test_sections_of_the_method_that_the_code_cites_exist() -> None:
    method = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    there = {
        "section": set(HEADING.findall(method)),
        "statement": set(STATEMENT.findall(method.partition("## Tested properties")[2])),
    }
    assert there["section"] >= {str(number) for number in range(1, 13)}
    tests = [file for file in (ROOT / "tests").rglob("*.py") if file.name != "test_style.py"]
    for file in [*FILES, *tests]:
        for kind, *numbers in CITED_SECTIONS.findall(file.read_text(encoding="utf-8")):
            missing = {number for number in numbers if number} - there[kind]
            assert not missing, f"{file.relative_to(ROOT)} cites {kind} {missing} of docs/method.md"


def texts(file: Path) -> Iterator[str]:
    """The text literals of a file; what is formatted into them is …, as are the places of a %-format."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[ds]", "…", node.value)


def test_messages_in_the_documents_are_the_programs_own() -> None:
    document = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = [message for block in FENCED.findall(document) for message in block.strip().splitlines()]
    assert len(messages) == document.count("\n### ") == 20
    known = [text for file in FILES for text in texts(file)]
    for message in messages:
        pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
        assert any(map(pattern.search, known)), f"no file of src or datamodules says: {message}"


def test_the_architecture_names_every_folder() -> None:
    document = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = {file.parent.relative_to(ROOT).as_posix() for file in FILES if len(file.parts) - len(ROOT.parts) == 3}
    assert folders
    assert [folder for folder in sorted(folders) if f"`{folder}/`" not in document] == []


def test_the_readme_shows_the_training_step_as_it_is() -> None:
    source = ast.parse((ROOT / "src/pretraining/module.py").read_text(encoding="utf-8"))
    steps = [node for node in ast.walk(source) if isinstance(node, ast.FunctionDef) and node.name == "training_step"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```python\n(def training_step.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert ast.dump(ast.parse(shown).body[0]) == ast.dump(steps[0])  # the formatter breaks lines by their indentation
