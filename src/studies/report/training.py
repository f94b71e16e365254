"""Training section of a report: losses, monitors and explanations."""

import re
from pathlib import Path
from typing import Any

from src.core.json_files import read_json_list
from src.core.names import path_part
from src.studies.plan.study import Row
from src.studies.report.charts import Series, line_chart, svg
from src.studies.report.pictures import file_uri
from src.studies.results.curves import Curve, read_curves
from src.studies.results.results import Results

LOSS, MONITOR, FROZEN = "train/loss", "monitor/", "/frozen"  # as they are called in metrics.csv
OWN_TIME = "monitor/share"  # of the run's time that the monitor took: no monitor itself
TEXTS = {"file": str, "title": str, "spoken": str}  # of a picture
SPELLED = {"knn": "kNN", "miou": "mIoU", "cls": "CLS"}

Runs = dict[str, list[dict[str, Curve]]]  # row → seed by seed → metric → curve


def curves(results: Results) -> dict[str, Any] | None:
    """Charts of losses and monitors of the pre-trainings; the frozen backbone's value is a dashed line."""
    rows = [row for row in results.study.rows.values() if row.pretrain is not None]
    runs = {row.name: [read_curves(path / "metrics.csv") for path in pretrainings(results, row)] for row in rows}
    names = sorted({name for found in runs.values() for run in found for name in run})
    losses = [name for name in names if name.startswith(LOSS)]
    monitors = [name for name in names if name.startswith(MONITOR) and not name.endswith(FROZEN) and name != OWN_TIME]
    if not losses and not monitors:
        return None
    groups = {"Monitors": monitors, "Losses": losses}
    return {
        "title": "Pre-training",
        "note": "Over the optimiser steps; further seeds are faint.",
        "labels": [row.label for row in rows],
        "frozen": any(name + FROZEN in names for name in monitors),
        "groups": [
            {"title": title, "charts": [chart(rows, runs, name) for name in chosen]}
            for title, chosen in groups.items()
            if chosen
        ],
    }


def chart(rows: list[Row], runs: Runs, name: str) -> dict[str, Any]:
    """One metric of all rows."""
    series = [
        Series(row.label, number, [run[name] for run in runs[row.name] if run.get(name)])
        for number, row in enumerate(rows)
    ]
    frozen = [run[name + FROZEN][-1][1] for found in runs.values() for run in found if run.get(name + FROZEN)]
    level = sum(frozen) / len(frozen) if frozen else None
    title = titled(name)
    return {"title": title, "svg": svg(line_chart(title, [item for item in series if item.curves], level))}


def titled(name: str) -> str:
    """Display name of a metric."""
    if name == LOSS:
        return "Total loss"
    if name.startswith(LOSS):
        return f"{name.rpartition('/')[2].capitalize()} loss"
    words = name.removeprefix(MONITOR).replace("/", ", ").replace("_", " ")
    first, *others = re.sub(r"\w+", lambda word: SPELLED.get(word[0], word[0]), words).split(" ")
    return " ".join([first if first.rstrip(",") in SPELLED.values() else first[:1].upper() + first[1:], *others])


def pretrainings(results: Results, row: Row) -> list[Path]:
    """The folders of a row's pre-trainings, seed by seed, each once."""
    cells = results.study.cells_of(row.name)
    needed = {cell.needs.identity: cell.needs for cell in cells if cell.needs is not None}
    return [results.store.folder(cell) for cell in needed.values()]


def explanations(results: Results) -> dict[str, Any]:
    """Explanation pictures of the first pre-training that has any."""
    for row in results.study.rows.values():
        for folder in pretrainings(results, row):
            if found := pictures(folder / "explanations"):
                return {"explained": row.label, "explanations": found}
    return {"explained": "", "explanations": []}


def pictures(folder: Path) -> list[dict[str, str]]:
    """The pictures of a folder with their texts, as far as they can be read."""
    texts = read_json_list(folder / "explanations.json", TEXTS)
    found = [(item, file_uri(folder / path_part(item["file"], "explanations.json"))) for item in texts]
    return [{"title": item["title"], "spoken": item["spoken"], "uri": uri} for item, uri in found if uri is not None]
