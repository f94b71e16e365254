"""A study's table as Markdown and as JSON."""

from dataclasses import asdict
from typing import Any

from src.evaluation.verdict import Verdict, signed
from src.studies.cells import RESULTS_VERSION
from src.studies.config import digest
from src.studies.estimate import clock
from src.studies.results import Entry, Results
from src.studies.study import Row

NOT_RUN = "…"


def markdown(results: Results) -> str:
    """The table, what it says in sentences, and where its numbers come from."""
    study = results.study
    columns = list(study.columns.values())
    lines = [f"# {study.title}", ""]
    if results.verdicts:
        lines += [*(f"- {sentence}" for sentence in sentences(results)), ""]
    lines += [
        "| | " + " | ".join(column.label for column in columns) + " |",
        "| --- | " + " | ".join("---" for _ in columns) + " |",
    ]
    for row in study.rows.values():
        texts = [entry_text(results.entries[row.name, column.name]) for column in columns]
        changes = [change_text(results, row, column.name) for column in columns]
        texts = [f"{text} {change}".strip() for text, change in zip(texts, changes, strict=True)]
        lines.append(f"| {row.label} | " + " | ".join(texts) + " |")
    lines += ["", caption(results), ""]
    for failure in results.failures:
        lines += [f"**Failed: {failure['title']}** ({failure['reason']}). The end of its log:", "", "```"]
        lines += [*failure["log"], "```", ""]
    lines += [" · ".join(footer(results)), ""]
    return "\n".join(lines)


def entry_text(entry: Entry) -> str:
    """`49.7 ± 0.2 (3)`; the seeds that are missing show as `…`."""
    if entry.mean is None:
        return NOT_RUN
    spread = f" ± {entry.std:.1f}" if entry.std is not None else ""
    count = f" ({len(entry.values)})" if entry.moved_by_seed else " (1, nothing random)"
    return f"{entry.mean:.1f}{spread}{count}{f' {NOT_RUN}' if entry.missing else ''}"


def change_text(results: Results, row: Row, column: str) -> str:
    """The difference to the baseline, in bold only where it is certain."""
    difference = results.difference(row.name, column)
    if difference is None:
        return ""
    verdict = results.verdicts.get((row.name, column))
    text = signed(difference)
    return f"**{text}**" if verdict is not None and is_certain(verdict) else text


def is_certain(verdict: Verdict) -> bool:
    """Whether a difference may be called one: from two seeds on, with an interval that leaves out zero."""
    return verdict.word in ("helped", "harmed")


def sentences(results: Results) -> list[str]:
    """The verdicts in words, row by row."""
    study = results.study
    return [
        verdict.sentence(f"{study.rows[row].label} ({study.columns[column].label})")
        for (row, column), verdict in results.verdicts.items()
    ]


def caption(results: Results) -> str:
    """How to read the table."""
    study = results.study
    metrics = sorted({column.metric for column in study.columns.values()})
    named = " and ".join("mIoU" if metric == "miou" else metric for metric in metrics)
    return (
        f"{named} in %, mean ± standard deviation (seeds), difference to {study.rows[study.baseline].label}; "
        "bold where the 95 % interval leaves out zero."
    )


def footer(results: Results) -> list[str]:
    """Command, commit, hash, hardware, cost and date."""
    found = results.provenances
    commits = sorted({item["commit"] for item in found})
    machines = sorted({item["hardware"] for item in found})
    parts = [
        f"`python -m src study {results.study.path.as_posix()}`",
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
    """The same for machines; `values` are in points of a hundred, by seed."""
    study = results.study
    return {
        "study": study.name,
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
                "pretrained": row.pretrain is not None,
                "entries": {column: entry_json(results, row.name, column) for column in study.columns},
            }
            for row in study.rows.values()
        ],
        "verdicts": [
            {"row": row, "column": column, "word": verdict.word, **asdict(verdict)}
            for (row, column), verdict in results.verdicts.items()
        ],
        "failures": results.failures,
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
        "cells": [results.cell(row, column, seed).identity for seed in seeds],
    }
