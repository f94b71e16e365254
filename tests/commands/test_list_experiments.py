"""``python -m src list``: the experiments by their headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.__main__ import main
from src.commands.list_experiments import FOLDER, MARK, SECTIONS, described, experiments, table


def test_every_experiment_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = [path for pattern in SECTIONS.values() for path in FOLDER.glob(pattern)]
    assert len(files) > 50
    for path in files:
        assert any(line.startswith(path.relative_to(FOLDER.parent).as_posix()) for line in lines), path


def test_words_narrow_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "CamVid", "DINO:"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("experiments/pretrain/camvid/dino.yaml\n  Baseline DINO")
    assert "cost: 2 cores: 25 minutes" in output and output.count("experiments/") == 1
    assert main(["list", "nothing-like-it"]) == 2
    assert "no experiment matches 'nothing-like-it'" in capsys.readouterr().err


def test_the_readme_is_up_to_date() -> None:
    text, _, tables = (FOLDER / "README.md").read_text(encoding="utf-8").partition(MARK)
    assert tables.strip() == table().strip(), "run: python -m src list --update"
    for folder in ("methods", "data", "protocols", "heads", "scales", "rows"):
        assert f"`{folder}/`" in text


def test_the_authors_own_studies_are_marked() -> None:
    own = {item.file.stem for found in experiments().values() for item in found if item.authors}
    assert own == {
        "camvid-settings",
        "camvid-blocks",
        "camvid-decoders",
        "camvid-data-efficiency",
        "real-images",
    }


@pytest.mark.parametrize("missing", ["GOOD", "COST"])
def test_a_header_that_lacks_a_part_is_named(missing: str, tmp_path: Path) -> None:
    lines = {"": "# A purpose. More.", "GOOD": "# GOOD  good", "COST": "# COST  1 minute"}
    (tmp_path / "x.yaml").write_text("\n#\n".join(line for name, line in lines.items() if name != missing))
    with pytest.raises(ValueError, match=rf"x\.yaml: expected a header .* found no {missing}"):
        described(tmp_path / "x.yaml")
