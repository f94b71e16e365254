"""The part of a report about the pre-trainings: losses, monitors beside the frozen backbone, and explanations."""

import re
from html import escape
from pathlib import Path
from typing import Any

from src.core.json_files import read_json_list
from src.core.names import path_part
from src.studies.plan.study import Row
from src.studies.report.charts import Series, figure, keys, line_chart
from src.studies.report.pictures import file_uri
from src.studies.results.curves import Curve, read_curves
from src.studies.results.results import Results

LOSS, MONITOR, FROZEN = "train/loss", "monitor/", "/frozen"  # as they are called in metrics.csv
OWN_TIME = "monitor/share"  # of the run's time that the monitor took: no monitor itself
TEXTS = {"file": str, "title": str, "spoken": str}  # of a picture
SPELLED = {"knn": "kNN", "miou": "mIoU", "cls": "CLS"}

Runs = dict[str, list[dict[str, Curve]]]  # row → seed by seed → metric → curve


def curves(results: Results) -> str:
    """Losses and monitors of the pre-trainings, a chart each; the frozen backbone's value is a dashed line."""
    rows = [row for row in results.study.rows.values() if row.pretrain is not None]
    runs = {row.name: [read_curves(path / "metrics.csv") for path in pretrainings(results, row)] for row in rows}
    names = sorted({name for found in runs.values() for run in found for name in run})
    losses = [name for name in names if name.startswith(LOSS)]
    monitors = [name for name in names if name.startswith(MONITOR) and not name.endswith(FROZEN) and name != OWN_TIME]
    if not losses and not monitors:
        return ""
    labels = keys([row.label for row in rows], frozen=any(name + FROZEN in names for name in monitors))
    note = "Over the optimiser steps; further seeds are faint."
    parts = [f'<section><h2>Pre-training</h2><p class="soft">{note}</p>{labels}']
    for title, chosen in (("Monitors", monitors), ("Losses", losses)):
        if chosen:
            charts = "".join(chart(rows, runs, name) for name in chosen)
            parts.append(f'<h3>{title}</h3><div class="charts">{charts}</div>')
    return "".join([*parts, "</section>"])


def chart(rows: list[Row], runs: Runs, name: str) -> str:
    """One metric of all rows."""
    series = [
        Series(row.label, number, [run[name] for run in runs[row.name] if run.get(name)])
        for number, row in enumerate(rows)
    ]
    frozen = [run[name + FROZEN][-1][1] for found in runs.values() for run in found if run.get(name + FROZEN)]
    title = titled(name)
    return figure(
        title,
        line_chart(title, [item for item in series if item.curves], sum(frozen) / len(frozen) if frozen else None),
    )


def titled(name: str) -> str:
    """A metric's name for people."""
    if name == LOSS:
        return "Total loss"
    if name.startswith(LOSS):
        return f"{name.rpartition('/')[2].capitalize()} loss"
    words = name.removeprefix(MONITOR).replace("/", ", ").replace("_", " ")
    first, *others = re.sub(r"\w+", lambda word: SPELLED.get(word[0], word[0]), words).split(" ")
    return " ".join([first if first.rstrip(",") in SPELLED.values() else first[:1].upper() + first[1:], *others])


def pretrainings(results: Results, row: Row) -> list[Path]:
    """The folders of a row's pre-trainings, seed by seed, each once."""
    cells = [results.cell(row.name, column, seed) for column in results.study.columns for seed in results.study.seeds]
    needed = {cell.needs.identity: cell.needs for cell in cells if cell.needs is not None}
    return [results.store.folder(cell) for cell in needed.values()]


def explanations(results: Results) -> str:
    """What the first pre-training that has pictures of it attends to."""
    for row in results.study.rows.values():
        for folder in pretrainings(results, row):
            if texts := read_json_list(folder / "explanations" / "explanations.json", TEXTS):
                return gallery(row, folder / "explanations", texts)
    return ""


def gallery(row: Row, folder: Path, texts: list[dict[str, Any]]) -> str:
    """The pictures that a file of texts names."""
    sheets = "".join(
        f'<figure class="card sheet"><figcaption>{escape(item["title"])}</figcaption>'
        f'<img src="{uri}" alt="{escape(item["spoken"], quote=True)}">'
        f'<p class="soft">{escape(item["spoken"])}</p></figure>'
        for item in texts
        if (uri := file_uri(folder / path_part(item["file"], "explanations.json"))) is not None
    )
    note = f"Training images, spread evenly over the set, as the teacher of {row.label} sees them."
    return f'<section><h2>What it attends to</h2><p class="soft">{escape(note)}</p>{sheets}</section>'
