"""Nothing from a file drives the terminal."""

from __future__ import annotations

import pytest

from src.core.errors import CommandLineError, UserError, one_message
from src.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b.png", "a b.png"),
        ("Bäume 樹 80 %", "Bäume 樹 80 %"),
        ("\x1b[2J\x1b]0;title\x07.png", r"\x1b[2J\x1b]0;title\x07.png"),
        ("a\nerror: b\r\t", r"a\nerror: b\r\t"),
        ("\x9b31m", r"\x9b31m"),  # an escape sequence in one character
        ("gnp.\u202egpj", r"gnp.\u202egpj"),
        ("\u2028", r"\u2028"),
        ("B\udce4ume", r"B\udce4ume"),  # a name that is no UTF-8
        (r"C:\data\new", r"C:\data\new"),
    ],
)
def test_what_cannot_be_seen_is_escaped_once(text: str, shown: str) -> None:
    assert printable(text) == shown == printable(shown)


def test_line_ends_stay_where_they_are_asked_for() -> None:
    assert printable("a\n\x1bb", lines=True) == "a\n\\x1bb"


@pytest.mark.parametrize("kind", [UserError, CommandLineError])
def test_messages_of_all_commands_are_escaped(kind: type[UserError], capsys: pytest.CaptureFixture[str]) -> None:
    with one_message():
        raise kind("\x1b[31mred.png: expected an image")
    assert capsys.readouterr().err == "error: \\x1b[31mred.png: expected an image\n"
