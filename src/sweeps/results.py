"""A sweep's results: one row per trial, as Markdown and CSV, best first."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any, Literal

from src.core.printable import printable
from src.studies.report.table import escaped
from src.sweeps.definition import Sweep
from src.sweeps.search import Search, cut_off

State = Literal["done", "stopped early", "failed", "running", "interrupted"]
_STATES: dict[str, State] = {
    "COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running", "WAITING": "interrupted",
}  # fmt: skip
_ORDER: tuple[State, ...] = ("done", "stopped early", "running", "interrupted", "failed")


@dataclass(frozen=True)
class Row:
    """A trial: its number, how it ended, the metric's last value unless it failed, its parameters and a remark."""

    number: int
    state: State
    value: float | None
    parameters: dict[str, Any]
    seconds: float
    note: str


def rows(sweep: Sweep, search: Search) -> list[Row]:
    """The trials, best first; then those that were stopped early, run, or failed."""
    found = []
    for number, trial in search.trials().items():
        reported = trial.intermediate_values
        last = reported[max(reported)] if reported else None
        told = trial.user_attrs
        state = "interrupted" if cut_off(trial) else _STATES[trial.state.name]
        # a failed run's last value, such as one from before it diverged, is no result
        value = trial.value if state == "done" else None if state == "failed" else last
        found.append(Row(number, state, value, told["values"], told.get("seconds", 0.0), told.get("note", "")))
    sign = 1 if sweep.goal == "minimize" else -1
    unknown = float("inf")
    return sorted(
        found,
        key=lambda row: (
            _ORDER.index(row.state),
            unknown if row.value is None or row.value != row.value else sign * row.value,
            row.number,
        ),
    )


def varied(found: list[Row]) -> list[str]:
    """The parameters that differ between trials; of a single trial all of them."""
    names = list(found[0].parameters) if found else []
    return [name for name in names if len(found) == 1 or len({text(row.parameters[name]) for row in found}) > 1]


def markdown(sweep: Sweep, found: list[Row]) -> str:
    """The table, with what all trials share above it and why trials failed below it."""
    names = varied(found)
    better = "lower" if sweep.goal == "minimize" else "higher"
    counts = ", ".join(f"{n} {state}" for state in _ORDER if (n := sum(row.state == state for row in found)))
    lines = [
        f"# {sweep.name}",
        "",
        f"{sweep.method} search of `{sweep.file}`: {counts}. {sweep.metric}: {better} is better.",
        "",
    ]
    if shared := [name for name in (found[0].parameters if found else ()) if name not in names]:
        lines += [f"In all trials: {', '.join(f'{name} = {text(found[0].parameters[name])}' for name in shared)}.", ""]
    lines += [f"| trial | {sweep.metric} | " + " | ".join(names) + " | seconds | |"]
    lines += ["| ---: | ---: |" + " --- |" * len(names) + " ---: | --- |"]
    for row in found:
        value = "–" if row.value is None else f"{row.value:.5g}"
        cells = [str(row.number), value, *(text(row.parameters[name]) for name in names)]
        state = "" if row.state == "done" else row.state
        lines.append(
            "| " + " | ".join([*(cell.replace("|", "\\|") for cell in cells), f"{row.seconds:.0f}", state]) + " |"
        )
    if failed := [row for row in found if row.state == "failed"]:
        lines += ["", "Failed:", *(f"- trial {row.number}: {escaped(printable(row.note))}" for row in failed)]
    return "\n".join(lines) + "\n"


def as_csv(sweep: Sweep, found: list[Row]) -> str:
    """The same for programs, with every parameter."""
    names = list(found[0].parameters) if found else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "state", sweep.metric, *names, "seconds", "note"])
    for row in found:
        values = [row.parameters[name] for name in names]
        writer.writerow(
            [row.number, row.state, "" if row.value is None else row.value]
            + [value if isinstance(value, str) else json.dumps(value) for value in values]
            + [f"{row.seconds:.1f}", row.note]
        )
    return buffer.getvalue()


def text(value: Any) -> str:
    """A parameter's value, short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
