"""A study's table as Markdown and as JSON."""

import re
from dataclasses import asdict
from typing import Any

from src.config.hashing import digest
from src.core.printable import printable
from src.evaluation.significance import Verdict, signed
from src.studies.plan.cells import RESULTS_VERSION
from src.studies.plan.study import Row
from src.studies.report import fair_table
from src.studies.results.quantity import quantity
from src.studies.results.results import Entry, Results
from src.studies.run.estimate import clock

NOT_RUN = "…"
UNKNOWN = "–"


def markdown(results: Results) -> str:
    """The table, what it says in sentences, and where its numbers come from."""
    study = results.study
    lines = [f"# {escaped(study.title)}", ""]
    if results.verdicts:
        lines += [*(f"- {escaped(sentence)}" for sentence in sentences(results)), ""]
    heads = [escaped(label) for label in head(results)]
    lines += ["| | " + " | ".join(heads) + " |", "| --- | " + " | ".join("---" for _ in heads) + " |"]
    lines += [f"| {escaped(row.label)} | " + " | ".join(line(results, row)) + " |" for row in study.rows.values()]
    lines += ["", escaped(caption(results)), ""]
    if found := fair_table.rows(results):
        heading, *body = [[escaped(text) for text in texts] for texts in found]
        lines += [f"| {' | '.join(heading)} |", "| --- " * len(heading) + "|"]
        lines += [f"| {' | '.join(texts)} |" for texts in body]
        lines += ["", escaped(fair_table.NOTE), ""]
    for failure in results.failures:
        fence = "`" * max(
            3, 1 + max((len(run) for text in failure["log"] for run in re.findall("`+", text)), default=0)
        )
        lines += [f"**Failed: {escaped(failure['title'])}** ({escaped(failure['reason'])}). The end of its log:"]
        lines += ["", fence, *failure["log"], fence, ""]
    if results.notes:
        lines += [
            "Stopped early by a guard, and included as they are:",
            "",
            *(f"- {escaped(note)}" for note in results.notes),
            "",
        ]
    lines += [" · ".join(footer(results)), ""]
    return printable("\n".join(lines), lines=True)


def escaped(text: str) -> str:
    """Escape Markdown and HTML in text."""
    return re.sub(r"[\\|*`<]", r"\\\g<0>", text)


def head(results: Results) -> list[str]:
    """The columns' labels; one with published values becomes three: ours, the paper's, and the difference."""
    labels = []
    for name, column in results.study.columns.items():
        published = name in results.published
        labels += [f"{column.label}, ours", "paper", "ours − paper"] if published else [column.label]
    return labels


def line(results: Results, row: Row, bold: str = "**") -> list[str]:
    """A row's texts, one for each of `head`; `bold` goes around what is certain."""
    texts = []
    for name in results.study.columns:
        text = entry_text(results.entries[row.name, name])
        if (row.name, name) in results.best:
            text = f"{bold}{text}{bold}"
        texts.append(f"{text} {change_text(results, row, name, bold)}".strip())
        if name in results.published:
            texts += paper_texts(results, row.name, name)
    return texts


def paper_texts(results: Results, row: str, column: str) -> list[str]:
    """The published value, and ours minus it; `–` where none is known."""
    published, ours = results.paper(row, column), results.entries[row, column].mean
    if published is None:
        return [UNKNOWN, UNKNOWN]
    return [f"{published:.1f}", NOT_RUN if ours is None else signed(ours - published)]


def entry_text(entry: Entry) -> str:
    """`49.7 ± 0.2 (3)`; the seeds that are missing show as `…`, what cannot be measured as `–`."""
    if not entry.applies:
        return UNKNOWN
    if entry.mean is None:
        return NOT_RUN
    spread = f" ± {entry.std:.{entry.digits}f}" if entry.std is not None else ""
    count = f" ({len(entry.values)})" if entry.moved_by_seed else " (1, nothing random)"
    return f"{entry.mean:.{entry.digits}f}{spread}{count}{f' {NOT_RUN}' if entry.missing else ''}"


def change_text(results: Results, row: Row, column: str, bold: str = "**") -> str:
    """The difference to the baseline, in bold only if significant."""
    difference = results.difference(row.name, column)
    if difference is None:
        return ""
    verdict = results.verdicts.get((row.name, column))
    text = signed(difference, results.entries[row.name, column].digits)
    return f"{bold}{text}{bold}" if verdict is not None and is_certain(verdict) else text


def is_certain(verdict: Verdict) -> bool:
    """Return whether a difference is significant: two seeds or more, and an interval that excludes zero."""
    return verdict.word in ("helped", "harmed")


def sentences(results: Results) -> list[str]:
    """The verdicts in words: those by two probes first, then those of the other columns, row by row."""
    study = results.study
    return [fair_table.sentence(results, item) for item in results.fair] + [
        verdict.sentence(f"{study.rows[row].label} ({study.columns[column].label})")
        for (row, column), verdict in results.other_verdicts.items()
    ]


def caption(results: Results) -> str:
    """Caption that explains how to read the table."""
    study = results.study
    units = list(dict.fromkeys(quantity(column.metric).unit for column in study.columns.values()))
    named = " and ".join(units) if len(units) < 3 else ", ".join(units)
    text = f"{named}, mean ± standard deviation (seeds), difference to {study.rows[study.baseline].label}"
    if not study.judged:
        text += "; a smoke test at toy sizes, without verdicts or published values."
    else:
        text += "; a difference in bold has a 95 % interval that excludes zero, a value in bold one to each other row."
    text += "".join(f" {row.label}: {row.note.rstrip('.')}." for row in study.rows.values() if row.note)
    if study.left_out:
        text += f" Left out for lack of data: {', '.join(study.left_out)}."
    return text


def footer(results: Results) -> list[str]:
    """Command, commit, hash, hardware, cost and date."""
    found = results.provenances
    commits = sorted({item["commit"] for item in found})
    machines = sorted({item["hardware"] for item in found})
    parts = [
        f"`{results.study.command}`",
        f"commit {', '.join(commits) or 'none yet'}",
        f"config {study_hash(results)}",
    ]
    if found:
        parts += [
            *machines,
            f"{clock(sum(item['seconds'] for item in found))} of computing",
            max(item["finished"] for item in found)[:10],
        ]
    return parts


def study_hash(results: Results) -> str:
    """A hash over all cells of the study."""
    return digest(sorted(results.study.cells))


def as_json(results: Results) -> dict[str, Any]:
    """The table as JSON; `values` are in percentage points, by seed."""
    study = results.study
    return {
        "study": study.name,
        "command": study.command,
        "judged": study.judged,
        "title": study.title,
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "config": study_hash(results),
        "results_version": RESULTS_VERSION,
        "complete": results.complete,
        "columns": [
            {"name": c.name, "label": c.label, "data": c.data, "metric": c.metric} for c in study.columns.values()
        ],
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "note": row.note,
                "pretrained": row.pretrain is not None,
                "entries": {column: entry_json(results, row.name, column) for column in study.columns},
            }
            for row in study.rows.values()
        ],
        "verdicts": [
            {"row": row, "column": column, "word": verdict.word, **asdict(verdict)}
            for (row, column), verdict in results.verdicts.items()
        ],
        "fair": fair_table.as_json(results),
        "failures": results.failures,
        "notes": results.notes,
        "commits": sorted({item["commit"] for item in results.provenances}),
        "hardware": sorted({item["hardware"] for item in results.provenances}),
        "seconds": round(sum(item["seconds"] for item in results.provenances), 1),
        "finished": max((item["finished"] for item in results.provenances), default=None),
    }


def entry_json(results: Results, row: str, column: str) -> dict[str, Any]:
    """One place of the table."""
    entry = results.entries[row, column]
    seeds = results.study.seeds if entry.moved_by_seed else results.study.seeds[:1]
    return {
        "values": entry.values,
        "mean": entry.mean,
        "std": entry.std,
        "n": len(entry.values),
        "missing": entry.missing,
        "random": entry.moved_by_seed,
        "difference": results.difference(row, column),
        "paper": results.paper(row, column),
        "best": (row, column) in results.best,
        "text": " ".join([entry_text(entry), change_text(results, results.study.rows[row], column)]).strip(),
        "cells": [results.cell(row, column, seed).identity for seed in seeds if results.study.measures(row, column)],
    }
