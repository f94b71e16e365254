"""Configurations made of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.composition import laid_over, lookup, override
from src.config.yaml_reader import read


def test_files_are_laid_over_each_other_in_order_and_the_own_content_last(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base.yaml").write_text("a: 1\nb: {c: 1, d: 1}")
    (tmp_path / "parts" / "one.yaml").write_text("extends: base.yaml\nb: {c: 2, e: 2}")
    (tmp_path / "two.yaml").write_text("b: {e: 3, f: 3}\ng: 3")
    (tmp_path / "x.yaml").write_text("extends: [parts/one.yaml, two.yaml]\ng: 4")
    assert read(tmp_path / "x.yaml") == {"a": 1, "b": {"c": 2, "d": 1, "e": 3, "f": 3}, "g": 4}


def test_a_mapping_in_a_file_may_extend_others(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("b: 1\nc: 1")
    (tmp_path / "x.yaml").write_text("a: {extends: base.yaml, c: 2}\nd: [{extends: base.yaml}]")
    assert read(tmp_path / "x.yaml") == {"a": {"b": 1, "c": 2}, "d": [{"b": 1, "c": 1}]}


def test_a_file_may_be_extended_twice_but_not_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: 1")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    (tmp_path / "c.yaml").write_text("extends: [a.yaml, b.yaml]")
    assert read(tmp_path / "c.yaml") == {"x": 1}
    (tmp_path / "a.yaml").write_text("extends: ./c.yaml")
    with pytest.raises(ValueError, match=r"b?\.yaml: extends .*which extends this file"):
        read(tmp_path / "c.yaml")


@pytest.mark.parametrize("value", ["3", "{a: b}", "[3]", "[[a.yaml]]", "null"])
def test_extends_names_files(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"extends: {value}")
    with pytest.raises(ValueError, match=r"a\.yaml: extends should be a path or a list of paths"):
        read(tmp_path / "a.yaml")


def test_a_missing_part_is_named_with_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: none.yaml")
    with pytest.raises(FileNotFoundError, match=r"a\.yaml: extends none\.yaml, but there is no file .*none\.yaml"):
        read(tmp_path / "a.yaml")


def test_another_class_replaces_the_arguments_and_the_same_class_keeps_them() -> None:
    below = {"adapter": {"class_path": "a.One", "init_args": {"rank": 64}}}
    assert laid_over(below, {"adapter": {"class_path": "a.Two"}}) == {"adapter": {"class_path": "a.Two"}}
    same = {"adapter": {"class_path": "a.One", "init_args": {"scale": 1}}}
    arguments = {"rank": 64, "scale": 1}
    assert laid_over(below, same) == {"adapter": {"class_path": "a.One", "init_args": arguments}}
    assert laid_over(below, {"adapter": same["adapter"] | {"class_path": "a.One"}})["adapter"]["init_args"] == arguments
    assert laid_over(below, {"adapter": {"init_args": {"scale": 1}}})["adapter"]["init_args"] == arguments
    assert laid_over(below, {"adapter": None}) == {"adapter": None}


def test_overrides_reach_deep_and_leave_the_original_alone() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": None}
    after = override(before, {"a.b": {"x": 1}, "d.e.f": 3, "g": [4]})
    assert after == {"a": {"b": {"x": 1}, "c": 2}, "d": {"e": {"f": 3}}, "g": [4]}
    assert before == {"a": {"b": 1, "c": 2}, "d": None}


@pytest.mark.parametrize("key", ["a..b", "", ".a", "a."])
def test_an_override_names_each_part_of_its_key(key: str) -> None:
    with pytest.raises(ValueError, match="expected a dotted key"):
        override({}, {key: 1})


def test_an_override_is_a_copy_of_its_value() -> None:
    value = {"x": [1]}
    after = override({}, {"a": value})
    after["a"]["x"].append(2)
    assert value == {"x": [1]}


def test_lookup_of_what_is_not_there() -> None:
    assert lookup({"a": {"b": 1}}, "a.b") == 1
    assert lookup({"a": {"b": 1}}, "a.b.c", "none") == "none"
