"""Scores beyond argmax mIoU of the rows that two probes judge, as text and as JSON (docs/method.md, section 11)."""

from dataclasses import asdict
from typing import Any

from src.evaluation.significance import Interval, signed
from src.studies.results.fair import FairRow
from src.studies.results.results import Results

SCORES = {  # as `compare_scores` names them
    "miou": "Linear mIoU",
    "matched_miou": "at matched frequencies",
    "average_precision": "Average precision",
    "cross_entropy": "Cross-entropy, %",
    "whitened_knn": "Whitened 30-NN",
}
NOTE = (
    "Changes with their 95 % intervals, in points; of cross-entropy in per cent, where less is better. mIoU at matched "
    "frequencies: every class is predicted as often as it occurs in the training images."
)


def label(results: Results, item: FairRow) -> str:
    """The row, and its data set where the study has several."""
    row = results.study.rows[item.row].label
    several = len({found.linear.data for found in results.fair}) > 1
    return f"{row} on {item.linear.data}" if several else row


def sentence(results: Results, item: FairRow) -> str:
    """The verdict in words."""
    return item.verdict.sentence(label(results, item))


def rows(results: Results) -> list[list[str]]:
    """The table's heading and its lines, a line for each row that was judged; empty without any."""
    if not results.fair:
        return []
    heading = [f"Change from {results.study.rows[results.study.baseline].label}", *SCORES.values(), "Verdict"]
    return [
        heading,
        *(
            [f"{label(results, item)}: change", *(in_words(item.changes[name]) for name in SCORES), item.verdict.word]
            for item in results.fair
        ),
    ]


def in_words(change: Interval) -> str:
    """`+1.2 (−0.6 to +3.0)`."""
    return f"{signed(change.difference)} ({signed(change.low)} to {signed(change.high)})"


def as_json(results: Results) -> list[dict[str, Any]]:
    """One item for each row and data set that was judged."""
    return [
        {
            "row": item.row,
            "label": label(results, item),
            "data": item.linear.data,
            "columns": [item.linear.name, item.neighbours.name],
            "word": item.verdict.word,
            "sentence": sentence(results, item),
            "averaging": item.verdict.averaging,
            "seeds": item.verdict.evidence.seeds,
            "images": item.images,
            "changes": {name: asdict(change) for name, change in item.changes.items()},
        }
        for item in results.fair
    ]
