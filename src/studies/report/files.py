"""Write the files of a study's results atomically."""

from pathlib import Path

from src.core.atomic_files import make_folder, write_text
from src.core.json_files import write_json
from src.studies.report.csv_file import spreadsheet
from src.studies.report.html import html
from src.studies.report.latex import latex
from src.studies.report.plot import write_plot
from src.studies.report.table import as_json, markdown
from src.studies.results.results import Results


def write_results(results: Results, folder: Path) -> str:
    """Write the table in all its forms, the plot and the report.

    Returns:
        The table as Markdown.
    """
    make_folder(folder)
    table = markdown(results)
    write_text(folder / "table.md", table)
    write_text(folder / "table.tex", latex(results))
    write_text(folder / "table.csv", spreadsheet(results))
    write_text(folder / "report.html", html(results))
    write_plot(results, folder)
    write_json(folder / "table.json", as_json(results))
    return table
