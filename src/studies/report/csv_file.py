"""A study's numbers as CSV, one line for each cell of the table."""

import csv
import io

from src.studies.results.quantity import quantity
from src.studies.results.results import Results

FIELDS = ("row", "column", "metric", "unit", "n", "missing", "mean", "std", "difference", "best", "paper", "values")


def spreadsheet(results: Results) -> str:
    """The text of the file; `values` are those of the seeds, separated by spaces."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIELDS)
    for (row, column), entry in results.entries.items():
        metric = results.study.columns[column].metric
        numbers = (entry.mean, entry.std, results.difference(row, column))
        writer.writerow(
            [row, column, metric, quantity(metric).unit, len(entry.values), entry.missing]
            + ["" if number is None else f"{number:.6g}" for number in numbers]
            + [int((row, column) in results.best), results.paper(row, column) or ""]
            + [" ".join(f"{value:.6g}" for value in entry.values)]
        )
    return stream.getvalue()
