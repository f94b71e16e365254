"""The one YAML reader."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from src.config import yaml_reader
from src.config.yaml_reader import load, parse, quoted, read, write
from tests.command_line import ROOT

BILLION = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n" for above, name in zip("abcdef", "bcdefg", strict=True)
)
BAD = {
    "a: [1": "is not valid yaml, line 1",
    "a: 1\nb: 2\na: 3": "is not valid yaml, line 3: expected each key once, found 'a' again",
    "a:\n  b: {c: 1, c: 2}": "is not valid yaml, line 2: expected each key once, found 'c' again",
    "a: !!python/object/apply:os.system [ls]": "is not valid yaml, line 1: expected a plain value, found the tag",
    "a: !!str 5": "found the tag",
    "a: {b: !mine x}": "found the tag !mine",
    "a: &a [*a]": "not used within itself",
    "a: &a {b: {c: *a}}": "not used within itself",
    BILLION: "expected at most 100,000 values",
    "a: " + "[" * 5000: "nested less deeply",
    "a: 1\n---\nb: 2": "is not valid yaml",
    "a: *nothing": "undefined alias",
    "a: " + "9" * 5000: "is not valid yaml",
    "a: \x07": "is not valid yaml",
    "a: {b: 1}: 2": "is not valid yaml",
    "? [1, 2]\n: 3": "is not valid yaml",
}


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 5e-4\nb: 1.0e-3\nc: 3\nd: 1e5\ne: v1e5\nf: .5\ng: -2.\nh: 0123-x\ni: ..\nj: 2024-01-01\n")
    expected = {"a": 5e-4, "b": 1e-3, "c": 3, "d": 1e5, "e": "v1e5", "f": 0.5, "g": -2.0, "h": "0123-x"}
    assert read(path) == {**expected, "i": "..", "j": "2024-01-01"}


@pytest.mark.parametrize("text", BAD, ids=[text[:20] for text in BAD])
def test_what_is_wrong_is_said_with_its_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"^bad\.yaml") as caught:
        parse(text, "bad.yaml")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        read(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    assert load(tmp_path / "list.yaml") == [1]
    with pytest.raises(ValueError, match=r"list\.yaml should hold a mapping"):
        read(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.yaml: expected UTF-8 text"):
        read(tmp_path / "latin.yaml")


def test_a_mapping_may_be_merged_into_others_that_override_it() -> None:
    text = "p: {q: &q {<<: &base {x: 1, y: 2}, y: 3}}\nr: {<<: *q, x: 4}"
    assert parse(text, "a.yaml") == {"p": {"q": {"x": 1, "y": 3}}, "r": {"x": 4, "y": 3}}


def test_old_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {class_path: datamodules.on_disk.Any, init_args: {job: pretrain}}")
    data = {"class_path": "datamodules.reading.segmentation_folder.Any", "init_args": {"task": "pretrain"}}
    assert read(tmp_path / "a.yaml") == {"data": data}


@pytest.mark.parametrize("text", ["5e-4", "5e4", "null", "yes", "1", "2024-01-01", "", "a: b", "._", "{a, b}"])
def test_texts_stay_texts_when_written(text: str, tmp_path: Path) -> None:
    content = {"a": text, "b": 5e-4, "c": float("inf"), "d": None, "e": [True, 1]}
    write(tmp_path / "a.yaml", content)
    assert read(tmp_path / "a.yaml") == content
    assert parse(quoted(content), "a.yaml") == content


def test_there_is_one_yaml_reader_and_it_is_a_safe_one() -> None:
    found = []
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("yaml."):
                found.append(ast.unparse(node))
    reads = [call for call in found if "load" in call.partition("(")[0]]
    assert reads == ["yaml.load(text, Loader)"]
    assert issubclass(yaml_reader.Loader, yaml.SafeLoader)
