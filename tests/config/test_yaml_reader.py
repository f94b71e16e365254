"""Configurations as dictionaries."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.yaml_reader import digest, lookup, override, read, without_effect


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 5e-4\nb: 1.0e-3\nc: 3\nd: 1e5\ne: v1e5\nf: .5\ng: -2.\nh: 0123-x\n")
    assert read(path) == {"a": 5e-4, "b": 1e-3, "c": 3, "d": 1e5, "e": "v1e5", "f": 0.5, "g": -2.0, "h": "0123-x"}


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        read(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"list\.yaml should hold a mapping"):
        read(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"bad\.yaml is not valid yaml"):
        read(tmp_path / "bad.yaml")


def test_overrides_reach_deep_and_leave_the_original_alone() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": None}
    after = override(before, {"a.b": {"x": 1}, "d.e.f": 3, "g": [4]})
    assert after == {"a": {"b": {"x": 1}, "c": 2}, "d": {"e": {"f": 3}}, "g": [4]}
    assert before == {"a": {"b": 1, "c": 2}, "d": None}


def test_an_override_is_a_copy_of_its_value() -> None:
    value = {"x": [1]}
    after = override({}, {"a": value})
    after["a"]["x"].append(2)
    assert value == {"x": [1]}


def test_lookup_of_what_is_not_there() -> None:
    assert lookup({"a": {"b": 1}}, "a.b") == 1
    assert lookup({"a": {"b": 1}}, "a.b.c", "none") == "none"


def test_paths_loggers_devices_and_workers_have_no_effect_and_the_rest_has() -> None:
    config = {
        "trainer": {"default_root_dir": "x", "logger": {"class_path": "y"}, "devices": 2, "max_steps": 5},
        "data": {"init_args": {"root": "z", "num_workers": 3, "size": 112}},
    }
    assert without_effect(config) == {"trainer": {"max_steps": 5}, "data": {"init_args": {"size": 112}}}


def test_the_digest_is_of_the_content_not_of_its_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])
