"""A study's table as a figure: one panel for each column, one line for each row: seeds, mean, published value."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from src.core.atomic_files import replacing
from src.explanation.palette import SERIES
from src.studies.report.table import footer
from src.studies.results.quantity import quantity
from src.studies.results.results import Results

OURS, PAPER = SERIES[:2]


def write_plot(results: Results, folder: Path) -> None:
    """Write `table.svg` and `table.png`; the same results give the same bytes."""
    study = results.study
    rows = list(study.rows.values())
    with rc_context({"svg.hashsalt": study.name}):
        size = (1.6 + 2.6 * len(study.columns), 1.2 + 0.32 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(study.columns), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, study.columns, strict=True):
            draw(panel, results, name)
        panels[0].set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
        panels[0].invert_yaxis()
        figure.suptitle(study.title, fontsize=9)
        figure.supxlabel(" · ".join(footer(results)[:3]), fontsize=5)
        with replacing(folder / "table.svg") as part:
            figure.savefig(part, metadata={"Date": None})
        with replacing(folder / "table.png") as part:
            figure.savefig(part, dpi=160, metadata={"Software": None})


def draw(panel: Any, results: Results, column: str) -> None:
    """One column: a circle for each seed, a stroke for the mean, a diamond for the published value."""
    everything: list[float] = []
    for place, row in enumerate(results.study.rows):
        entry, published = results.entries[row, column], results.paper(row, column)
        everything += entry.values + ([] if published is None else [published])
        if entry.mean is not None:
            panel.plot(entry.values, [place] * len(entry.values), "o", ms=3, mfc="none", mec=OURS, mew=0.8)
            panel.plot([entry.mean], [place], "|", ms=12, mew=2, color=OURS)
        if published is not None:
            panel.plot([published], [place], "D", ms=4, color=PAPER)
    if everything:
        room = 0.1 * (max(everything) - min(everything)) or 0.05 * abs(max(everything)) or 1.0
        panel.set_xlim(min(everything) - room, max(everything) + room)
    panel.set_title(results.study.columns[column].label, fontsize=8)
    panel.set_xlabel(quantity(results.study.columns[column].metric).unit, fontsize=7)
    panel.tick_params(labelsize=7)
    panel.grid(axis="x", lw=0.3)
