"""The style sheet of every report, with the palette in it: a page needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from src.explanation.palette import DARK, LIGHT


def style() -> Markup:
    """The content of a page's style element, on light and on dark paper."""
    rules = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return Markup(
        f":root {{ color-scheme: light dark;{_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{_variables(DARK)} }} }}\n{rules}"
    )


def _variables(palette: Mapping[str, str]) -> str:
    return "".join(f" --{name}: {value};" for name, value in palette.items())
