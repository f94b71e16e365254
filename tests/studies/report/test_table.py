"""Tables from result files alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml

from src.core.json_files import write_json
from src.studies.plan.cells import Cell, Store
from src.studies.plan.study import Study
from src.studies.report.csv_file import spreadsheet
from src.studies.report.latex import latex
from src.studies.report.plot import write_plot
from src.studies.report.table import as_json, markdown
from src.studies.results.results import Results
from src.studies.run.execution import remove
from tests.studies.cells_on_disk import fill, finish, study_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cells")


def line(text: str, start: str) -> list[str]:
    """The cells of the table's line that starts so."""
    found = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [part.strip() for part in found.strip("|").split("|")]


def miou(right: int) -> float:
    """Of `cells_on_disk.confusions`: hits of right + 0, 1, 2, 3 of 100 in turn."""
    hits = right + 1.5
    return 100 * hits / (200 - hits)


def test_values_deviations_differences_and_counts(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    frozen, ours = [miou(50), miou(51)], [miou(58), miou(59)]
    text = markdown(Results(study, store))
    assert line(text, "Frozen")[1] == f"{fmean(frozen):.1f} ± {stdev(frozen):.1f} (2)"
    assert line(text, "Frozen")[2] == f"{miou(50):.1f} (1, nothing random)"
    assert line(text, "GLARE")[1] == (
        f"**{fmean(ours):.1f} ± {stdev(ours):.1f} (2)** **+{fmean(ours) - fmean(frozen):.1f}**"
    )
    assert "GLARE (Linear) helped: +" in text
    entry = as_json(Results(study, store))["rows"][1]["entries"]["linear"]
    assert entry["values"] == pytest.approx(ours)
    assert entry["difference"] == pytest.approx(fmean(ours) - fmean(frozen))
    assert (entry["n"], entry["missing"]) == (2, 0)


def test_bold_only_where_it_is_certain(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path, seeds=[0]))
    fill(study, store)
    text = markdown(Results(study, store))
    assert "**" not in line(text, "GLARE")[1]
    assert "nothing is certain" in text
    assert line(text, "GLARE")[1].endswith(f"(1) +{miou(58) - miou(50):.1f}")


def test_what_has_not_run_shows_as_dots_and_no_verdict_is_made_up(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    empty = Results(study, store)
    assert line(markdown(empty), "GLARE")[1:] == ["…", "…"]
    assert as_json(empty)["verdicts"] == []
    assert not empty.complete
    for cell in study.cells.values():
        if cell.label == "Frozen, Linear" and cell.seed == 0:
            finish(cell, store)
    assert line(markdown(Results(study, store)), "Frozen")[1] == f"{miou(50):.1f} (1) …"


def test_the_difference_is_over_the_seeds_that_both_rows_have(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    late = next(cell for cell in study.cells.values() if cell.label == "GLARE, Linear" and cell.needs.seed == 1)
    (store.folder(late) / "metrics.json").unlink()
    results = Results(study, store)
    assert results.difference("glare", "linear") == pytest.approx(miou(58) - miou(50))
    assert results.verdicts["glare", "linear"].miou.difference == pytest.approx(miou(58) - miou(50))


def test_the_footer_has_the_end_of_a_failed_log(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    broken = next(cell for cell in study.cells.values() if cell.stage == "pretrain")
    (store.folder(broken) / "metrics.json").unlink()
    failure = {"title": broken.title, "reason": "exit code 3", "log": ["loading", "it broke"]}
    write_json(store.folder(broken) / "failure.json", failure)
    text = markdown(Results(study, store))
    assert f"**Failed: {broken.title}** (exit code 3)" in text
    assert "```\nloading\nit broke\n```" in text
    assert as_json(Results(study, store))["failures"] == [failure]


def test_the_footer_says_where_numbers_come_from(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    last = markdown(Results(study, store)).strip().splitlines()[-1]
    for part in ("python -m src study", "commit 0123456789ab", "two cores", "9 min of computing", "2026-01-02"):
        assert part in last


def test_rows_on_other_images_are_not_compared(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    for cell in study.cells.values():
        finish(cell, store, images=12 if cell.needs else 13)
    with pytest.raises(ValueError, match="same images"):
        markdown(Results(study, store))


def test_a_metric_that_does_not_exist_is_named(tmp_path: Path, store: Store) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "metric": "iou/car"}
    study = Study.read(study_file(tmp_path, columns={"cars": column}))
    fill(study, store)
    with pytest.raises(ValueError, match="column cars: no metric 'iou/car' in evaluate Frozen"):
        Results(study, store)


def test_a_metric_of_one_class(tmp_path: Path, store: Store) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "metric": "iou/road"}
    study = Study.read(study_file(tmp_path, columns={"roads": column}))
    fill(study, store)
    results = Results(study, store)
    assert results.entries["frozen", "roads"].mean == pytest.approx((miou(50) + miou(51)) / 2)
    assert results.verdicts == {}  # they are about mIoU


def test_rendering_reads_no_more_than_the_results(tmp_path: Path, store: Store) -> None:
    """A finished cell's run folder may lose its checkpoints."""
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    kept = {"metrics.json", "provenance.json", "confusion.npz"}

    def strip(cell: Cell) -> None:
        for path in store.folder(cell).iterdir():
            if path.name not in kept:
                remove(path)

    before = markdown(Results(study, store))
    for cell in study.cells.values():
        strip(cell)
    assert markdown(Results(study, store)) == before


def test_a_published_value_stands_beside_ours_with_the_difference(tmp_path: Path, store: Store) -> None:
    column = {"label": "ADE", "data": "scenes", "config": str(tmp_path / "segment.yaml"), "paper": {"glare": 41.6}}
    study = Study.read(study_file(tmp_path, columns={"ade": column}))
    empty = markdown(Results(study, store))
    assert "| | ADE, ours | paper | ours − paper |" in empty
    assert line(empty, "GLARE")[1:] == ["…", "41.6", "…"]
    assert line(empty, "Frozen")[1:] == ["…", "–", "–"]
    fill(study, store)
    ours = fmean([miou(58), miou(59)])
    assert line(markdown(Results(study, store)), "GLARE")[2:] == ["41.6", f"{ours - 41.6:+.1f}"]


def test_the_best_is_bold_only_above_every_other_row(tmp_path: Path, store: Store) -> None:
    rows = {name: {"label": name, "set": {"x": name}} for name in ("a", "b", "c")}
    rows["a"]["pretrain"] = None  # type: ignore[assignment]
    study = Study.read(study_file(tmp_path, rows=rows))
    for cell in study.cells.values():
        finish(cell, store, gain={"a": 0, "b": 4, "c": 8}[cell.label[0]])
    assert Results(study, store).best == {("c", "linear"), ("c", "knn")}
    for cell in study.cells.values():
        finish(cell, store, gain={"a": 0, "b": 8, "c": 8}[cell.label[0]])
    assert Results(study, store).best == set()  # b and c are equal


def test_a_smoke_test_has_no_verdict_and_nothing_bold(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path, judged=False))
    fill(study, store)
    results = Results(study, store)
    assert (results.verdicts, results.best) == ({}, set())
    text = markdown(results)
    assert "**" not in text
    assert "helped" not in text
    assert "without verdicts" in text


def test_costs_are_those_of_the_pre_training(tmp_path: Path, store: Store) -> None:
    config = str(tmp_path / "segment.yaml")
    columns = {
        name: {"data": "scenes", "config": config, "metric": name} for name in ("parameters", "hours", "memory", "miou")
    }
    study = Study.read(study_file(tmp_path, columns=columns))
    fill(study, store)
    for cell in study.cells.values():
        if cell.stage == "pretrain":
            values = {**(store.metrics(cell) or {})["values"], "parameters": 1_234_567}
            write_json(store.folder(cell) / "metrics.json", {"values": values})
    text = markdown(Results(study, store))
    assert line(text, "Frozen")[1:4] == ["–", "–", "–"]
    assert [part.split(" ± ")[0] for part in line(text, "GLARE")[1:4]] == ["1.23", "0.02", "1.00"]  # M, hours, GiB
    assert "million trained parameters" in text


def test_a_pre_training_that_a_guard_stopped_is_noted(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    first, second = [cell for cell in study.cells.values() if cell.stage == "pretrain"]
    write_json(
        store.folder(first) / "guards.json", {"stopped": "stopped at step 3 of 9, divergence: NaN", "warnings": []}
    )
    write_json(store.folder(second) / "guards.json", {"stopped": None, "warnings": ["step 1, spike"]})
    results = Results(study, store)
    assert results.notes == [f"{first.title}: stopped at step 3 of 9, divergence: NaN"]
    assert f"- {first.title}: stopped at step 3" in markdown(results)


def test_latex_has_the_same_table_with_every_sign_escaped(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path, title="50 % & more_"))
    fill(study, store)
    text = latex(Results(study, store))
    ours = [miou(58), miou(59)]
    assert r"\caption{50 \% \& more\_. mIoU in \%" in text
    assert rf"GLARE & \textbf{{{fmean(ours):.1f} $\pm$ {stdev(ours):.1f} (2)}} \textbf{{+" in text
    assert rf"Frozen & {fmean([miou(50), miou(51)]):.1f} $\pm$" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert text.count("{") == text.count("}")
    assert text.startswith("% `python -m src study")


def test_the_spreadsheet_has_each_value(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    rows = list(csv.DictReader(io.StringIO(spreadsheet(Results(study, store)))))
    found = next(row for row in rows if (row["row"], row["column"]) == ("glare", "linear"))
    assert [float(value) for value in found["values"].split()] == pytest.approx([miou(58), miou(59)], abs=1e-3)
    assert float(found["mean"]) == pytest.approx(fmean([miou(58), miou(59)]), abs=1e-3)
    assert (found["n"], found["missing"], found["best"], found["paper"]) == ("2", "0", "1", "")
    assert len(rows) == 4


def test_the_plot_is_drawn_from_the_results_and_is_the_same_each_time(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_plot(Results(study, store), tmp_path / name)
        drawn.append([(tmp_path / name / f"table.{kind}").read_bytes() for kind in ("svg", "png")])
    assert drawn[0] == drawn[1]
    assert drawn[0][0].startswith(b"<?xml")
    assert drawn[0][1].startswith(b"\x89PNG")


def test_nothing_in_a_name_or_a_file_drives_the_terminal_or_the_table(tmp_path: Path, store: Store) -> None:
    evil = "a|b\x1b[31m\n*c* `d` <e>"
    path = study_file(tmp_path, title=evil)
    content = yaml.safe_load(path.read_text())
    content["rows"]["glare"] = {"label": evil, "note": evil}
    content["columns"]["linear"]["label"] = evil
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    study = Study.read(path)
    fill(study, store)
    broken = next(cell for cell in study.cells.values() if cell.stage == "pretrain")
    (store.folder(broken) / "metrics.json").unlink()
    log = ["\x1b]0;title\x07", "```", "````", "after"]
    write_json(store.folder(broken) / "failure.json", {"title": evil, "reason": "exit\n code 3", "log": log})
    other = store.folder(next(cell for cell in study.cells.values() if cell.stage == "evaluate"))
    write_json(other / "provenance.json", {**json.loads((other / "provenance.json").read_text()), "commit": "x\n}\x1b"})
    text = markdown(Results(study, store))
    shown = r"a\|b\\x1b[31m\\n\*c\* \`d\` \<e>"
    assert f"# {shown}\n" in text and f"\n| {shown} | " in text and f"| | {shown} | 30-NN |" in text
    assert text.count("`````") == 2 and text.index("`````") < text.index("````\nafter") < text.rindex("`````")
    sheet = latex(Results(study, store))
    for made in (text, sheet, spreadsheet(Results(study, store))):
        assert all(sign == "\n" or sign.isprintable() for sign in made)
    comments = [each for each in sheet.splitlines() if not each.startswith("%")]
    assert comments[0] == r"\begin{table}" and r"x\n}\x1b" in sheet
    assert r"a|b\textbackslash{}x1b" in sheet
