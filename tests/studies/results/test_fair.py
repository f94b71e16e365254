"""Two probes of one data set are judged together, from the files of a study's cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from src.commands.verdict import main
from src.core.json_files import write_json
from src.evaluation.probe_scores import ProbeScores
from src.studies.plan.cells import Cell, Store
from src.studies.plan.study import Study
from src.studies.report.html import html
from src.studies.report.table import as_json, markdown
from src.studies.results.fair import probe_of
from src.studies.results.results import Results
from tests.studies.cells_on_disk import SEGMENT, confusions, fill, study_file

IMAGES = 12


def probe(folder: Path, right: int, sharpness: float, names: list[str]) -> None:
    """Scores of a converged probe: as many pixels right as `right`; log-probabilities as certain as `sharpness`."""
    draws = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (IMAGES * 20,), generator=draws)
    noise = torch.randn(len(classes), 3, generator=draws)
    shares = torch.nn.functional.one_hot(classes, 3).float()
    logs = (sharpness * shares + noise).log_softmax(dim=1)
    matrices = torch.from_numpy(confusions(right, IMAGES))
    ProbeScores(names, matrices, matrices, logs, shares, torch.arange(IMAGES).repeat_interleave(20)).save(
        folder / "probe.npz"
    )


def fair_study(folder: Path, **changes: Any) -> Study:
    """Frozen, frozen averaged and GLARE under a converged linear probe and whitened nearest neighbours."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, class_path, arguments in (
        ("linear", "src.probes.linear.ConvergedLinearProbe", {}),
        ("knn", "src.probes.dense_knn.NearestNeighbours", {"whitened": True}),
    ):
        model = {"class_path": class_path, "init_args": arguments}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SEGMENT | {"model": model}))
    columns = {
        name: {"label": name, "data": "scenes", "seeded": False, "config": str(folder / f"{name}.yaml")}
        for name in ("linear", "knn")
    }
    averaged = {"pretrain": None, "evaluate": {"set": {"model.init_args.averaged": True}}}
    rows = {"frozen": {"label": "Frozen", "pretrain": None}, "averaged": averaged, "glare": {"label": "GLARE"}}
    return Study.read(study_file(folder, rows=rows, columns=columns, **changes))


def finished(study: Study, store: Store, gains: dict[str, int], sharpness: dict[str, float]) -> Results:
    """The study's results, where rows have gained so many of 100 pixels, and are so sure of their patches."""
    fill(study, store, gain=gains["glare"], images=IMAGES)
    for row in study.rows:
        for seed in study.seeds:
            cell = study.cell(row, "linear", seed)
            names = [f"val/{index}.png" for index in range(IMAGES)]
            probe(store.folder(cell), 50 + seed + gains[row], sharpness[row], names)
    return Results(study, store)


GAINS = {"frozen": 0, "averaged": 2, "glare": 8}
SURE = {"frozen": 2.0, "averaged": 2.5, "glare": 3.0}


@pytest.mark.parametrize(
    ("gain", "sure", "word"),
    [(8, 3.0, "helped"), (-8, 1.0, "harmed"), (-8, 3.0, "mixed"), (8, 1.0, "mixed"), (0, 3.0, "inconclusive")],
)
def test_the_word_follows_the_rule_of_section_11(tmp_path: Path, gain: int, sure: float, word: str) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "cells")
    results = finished(study, store, GAINS | {"glare": gain}, SURE | {"glare": sure})
    averaged, glare = results.fair
    assert (averaged.row, glare.row, glare.verdict.word) == ("averaged", "glare", word)
    assert (glare.images, glare.verdict.evidence.seeds, averaged.verdict.evidence.seeds) == (IMAGES, 2, 0)
    assert np.sign(glare.changes["cross_entropy"].difference) == (-1 if sure > 2 else 1)
    assert np.sign(glare.changes["average_precision"].difference) == (1 if sure > 2 else -1)
    assert glare.changes["miou"].difference == pytest.approx(results.difference("glare", "linear"), abs=1.0)
    assert glare.changes["whitened_knn"].difference == pytest.approx(results.difference("glare", "knn"))


def test_a_helped_row_behind_averaging_is_called_so(tmp_path: Path) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "cells")
    results = finished(study, store, GAINS | {"averaged": 12}, SURE)
    assert results.fair[1].verdict.averaging == "better"
    assert "The frozen model averaged over flips and scales is the better choice" in markdown(results)


def test_every_form_of_the_results_has_the_verdict_and_the_other_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "runs" / "cells")
    results = finished(study, store, GAINS, SURE)
    text, page, table = markdown(results), html(results), as_json(results)
    assert "GLARE helped: the linear probe gained over frozen" in text
    assert "| GLARE: change | +" in text
    assert "One seed" not in text
    assert "GLARE (linear)" not in text  # a column's own verdict would be a second one
    assert page.index("It helped.") < page.index("GLARE helped: ") < page.index("Cross-entropy, %")
    fair = table["fair"][1]
    assert (fair["row"], fair["columns"], fair["word"]) == ("glare", ["linear", "knn"], "helped")
    assert fair["changes"]["cross_entropy"]["high"] < 0
    (tmp_path / "runs" / "small").mkdir()
    write_json(tmp_path / "runs" / "small" / "table.json", table)
    main([str(tmp_path / "runs" / "small")])
    printed = capsys.readouterr().out
    assert fair["sentence"] in printed
    assert "GLARE (linear): +" in printed
    main([str(tmp_path / "runs" / "small"), "--json"])
    words = {item["label"]: item["together"] for item in json.loads(capsys.readouterr().out)}
    assert {word for label, word in words.items() if label.startswith("GLARE")} == {"helped"}


def test_one_seed_is_said_to_prove_nothing(tmp_path: Path) -> None:
    study, store = fair_study(tmp_path, seeds=[0]), Store(tmp_path / "cells")
    results = finished(study, store, GAINS, SURE)
    assert "Better on these images; one seed proves nothing." in html(results)
    assert "GLARE helped on these images: " in markdown(results)
    assert "One seed: the intervals cover the choice of images" in markdown(results)


def test_seeds_that_are_not_finished_are_left_out_and_without_any_nothing_is_judged(tmp_path: Path) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "cells")
    finished(study, store, GAINS, SURE)
    (store.folder(study.cell("glare", "knn", 1)) / "metrics.json").unlink()
    assert Results(study, store).fair[1].verdict.evidence.seeds == 1
    (store.folder(study.cell("frozen", "linear", 0)) / "metrics.json").unlink()
    later = Results(study, store)
    assert later.fair == []
    assert later.other_verdicts == later.verdicts


@pytest.mark.parametrize("file", ["probe.npz", "confusion.npz"])
def test_a_damaged_file_is_told_and_its_row_is_not_judged(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "cells")
    finished(study, store, GAINS, SURE)
    column = "linear" if file == "probe.npz" else "knn"
    path = store.folder(study.cell("glare", column, 0)) / file
    path.write_bytes(path.read_bytes()[:100])
    assert [item.row for item in Results(study, store).fair] == ["averaged"]
    assert f"{path}: expected an archive of arrays" in capsys.readouterr().err


def test_rows_evaluated_on_other_images_are_refused(tmp_path: Path) -> None:
    study, store = fair_study(tmp_path), Store(tmp_path / "cells")
    results = finished(study, store, GAINS, SURE)
    probe(store.folder(study.cell("glare", "linear", 1)), 58, 3.0, [f"val/{index}.png" for index in range(1, 13)])
    with pytest.raises(ValueError, match="not evaluated on the same images"):
        assert results.fair


def test_columns_of_other_data_or_other_probes_are_no_pair(tmp_path: Path) -> None:
    study = fair_study(tmp_path)
    cells = {column: study.cell("frozen", column, 0) for column in study.columns}
    assert [probe_of(cell) for cell in cells.values()] == ["linear", "neighbours"]
    plain = {"model": {"class_path": "src.probes.dense_knn.NearestNeighbours", "init_args": {"whitened": False}}}
    assert probe_of(Cell("evaluate", "x", 0, plain)) is None
    content = yaml.safe_load((tmp_path / "knn.yaml").read_text())
    content["data"]["init_args"]["size"] = 64
    (tmp_path / "knn.yaml").write_text(yaml.safe_dump(content))
    other, store = Study.read(tmp_path / "small.yaml"), Store(tmp_path / "cells")
    fill(other, store, images=IMAGES)
    assert Results(other, store).fair == []
