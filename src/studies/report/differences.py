"""Charts of a study's results: over its axis, and differences with their intervals."""

from typing import Any

from src.studies.report.charts import Bar, Levels, axis_chart, interval_chart, svg
from src.studies.report.table import is_certain
from src.studies.results.results import Results


def over_axis(results: Results) -> dict[str, Any] | None:
    """The columns as curves over the rows, where the study has an axis."""
    study = results.study
    marks = sorted({row.at for row in study.rows.values() if row.at is not None})
    if not study.axis or len(marks) < 2:
        return None
    series = []
    for number, column in enumerate(study.columns.values()):
        entries = {row.at: results.entries[row.name, column.name] for row in study.rows.values() if row.at is not None}
        points = {at: (item.mean, item.std or 0.0) for at, item in entries.items() if item.mean is not None}
        if points:
            series.append(Levels(column.label, number, points))
    if not series:
        return None
    chart = {"title": f"Over {study.axis}", "svg": svg(axis_chart("Result", study.axis, marks, series))}
    return {
        "title": f"Result over {study.axis}",
        "note": "Mean and standard deviation over the seeds; the marks are evenly spaced, the steps between them are "
        "not.",
        "labels": [item.label for item in series],
        "frozen": False,
        "groups": [{"title": "", "charts": [chart]}],
    }


def with_intervals(results: Results) -> dict[str, Any] | None:
    """The differences with their intervals, over all, and class by class for the first verdict."""
    if not results.verdicts:
        return None
    study = results.study
    several = len(study.rows) > 2
    bars = [
        Bar(
            f"{study.rows[row].label}, {study.columns[column].label}" if several else study.columns[column].label,
            item.miou,
            is_certain(item),
        )
        for (row, column), item in results.verdicts.items()
    ]
    (row, column), first = next(iter(results.verdicts.items()))
    title = f"mIoU, difference to {study.rows[study.baseline].label}"
    charts = [{"title": title, "svg": svg(interval_chart("Difference in mIoU", bars))}]
    if first.classes:
        classes = [Bar(name, item, item.certain and first.seeds > 1) for name, item in first.classes.items()]
        classes.sort(key=lambda bar: -bar.interval.difference)
        name = f"Each class, {study.columns[column].label}"
        chart = svg(interval_chart(f"{name}: difference in IoU", classes))
        charts.append({"title": f"{name} ({study.rows[row].label})", "svg": chart})
    return {
        "title": "Intervals",
        "note": "Points of IoU with 95 % intervals over images and seeds; those of classes are widened for their "
        "number. Grey: the interval includes zero.",
        "labels": [],
        "frozen": False,
        "groups": [{"title": "", "charts": charts}],
    }
