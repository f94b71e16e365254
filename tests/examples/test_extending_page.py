"""docs/extending.md shows the files of examples/extension as they are."""

from __future__ import annotations

import re

from tests.command_line import ROOT

EXTENSION = ROOT / "examples" / "extension"
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_every_file_is_shown_as_it_is() -> None:
    shown = dict(TITLED.findall((ROOT / "docs" / "extending.md").read_text()))
    files = [*EXTENSION.glob("*.yaml"), *(EXTENSION / "mylab").glob("[!_]*.py")]
    assert shown.keys() == {file.relative_to(EXTENSION).as_posix() for file in files}
    for name, text in shown.items():
        assert text == (EXTENSION / name).read_text(), f"docs/extending.md: copy examples/extension/{name} again"
