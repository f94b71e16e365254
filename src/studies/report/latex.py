r"""A study's table as LaTeX, for `\input` under the package booktabs."""

import re

from src.core.printable import printable
from src.studies.report.table import caption, footer, head, line
from src.studies.results.results import Results

ESCAPED = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "…": r"\ldots{}",
    "–": "--",
    "×": r"$\times$",
}
BOLD = "\0"  # around what is bold while the rest is escaped


def latex(results: Results) -> str:
    """A `table` environment; comments above it give the origin of its numbers."""
    study = results.study
    heads = head(results)
    body = [
        " & ".join([escaped(row.label), *(bold(escaped(text)) for text in line(results, row, BOLD))]) + r" \\"
        for row in study.rows.values()
    ]
    text = "\n".join(
        [
            *(f"% {part}" for part in footer(results)),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(study.title)}. {escaped(caption(results))}}}",
            rf"\label{{tab:{study.name}}}",
            rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
            r"\toprule",
            " & ".join(["", *(escaped(label) for label in heads)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
    return printable(text, lines=True)


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(ESCAPED.get(sign, sign) for sign in text)


def bold(text: str) -> str:
    """Text whose marked parts are bold."""
    return re.sub(f"{BOLD}(.*?){BOLD}", r"\\textbf{\1}", text)
