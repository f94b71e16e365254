"""Verdicts from a results folder: `table.json` and the confusion matrices of its cells."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from src.core.archives import read_arrays
from src.core.errors import MissingFile, UserError
from src.core.json_files import damaged, read_json
from src.evaluation.significance import Array, Interval, Verdict, judge_overlaps, overlaps
from src.studies.plan.cells import METRICS, finished
from src.studies.results.cost import Cost, cost


class Judged(NamedTuple):
    """A row in a column, against the baseline."""

    label: str
    verdict: Verdict
    recorded: bool  # the verdict is that of table.json: the matrices are not here
    cost: Cost
    together: str = ""  # the word of the verdict that this column is only a part of, see `recorded_together`


def judged(folder: Path) -> list[Judged]:
    """The verdict on each row of a study in each of its mIoU columns, computed again where the matrices are available.

    Args:
        folder: with `table.json`; the cells are in `cells/` within it (published) or next to it (a study's run folder).

    Raises:
        MissingFile: if there is no `table.json`, or no row that both it and the baseline have been evaluated in.
        UserError: if two rows were not evaluated on the same images.
    """
    table = read_table(folder)
    recorded = {(item["row"], item["column"]): from_json(item) for item in table["verdicts"]}
    parts = {(one["row"], column): one["word"] for one in recorded_together(table) for column in one["columns"]}
    found = []
    for item in comparisons(folder, table):
        whole = item.pairs and all(per_image(path) is not None for pair in item.pairs for path in pair)
        verdict = judge_folders(item.pairs) if whole else recorded.get((item.row["name"], item.column["name"]))
        if verdict is not None:
            paid = cost(pretrainings(item.evaluations), item.evaluations, len(item.evaluations))
            label = f"{item.row['label']} ({item.column['label']})"
            together = parts.get((item.row["name"], item.column["name"]), "")
            found.append(Judged(label, verdict, not whole, paid, together))
    if not found:
        baseline = next(row["label"] for row in table["rows"] if row["name"] == table["baseline"])
        raise MissingFile(
            f"{folder}: only {baseline} has results so far; run `python -m src study` again to compute the missing ones"
        )
    return found


def read_table(folder: Path) -> dict[str, Any]:
    """The `table.json` of a study.

    Raises:
        MissingFile: if there is none.
    """
    table = read_json(folder / "table.json", {"rows": list, "columns": list, "verdicts": list, "baseline": str})
    if table is None:
        raise MissingFile(
            f"{folder / 'table.json'}: no such file, or a damaged one. Expected the folder of a study, such as "
            "runs/camvid or results/camvid; `python -m src study FILE` makes one"
        )
    return table


def recorded_together(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdicts by two probes (`src.studies.results.fair`) in a `table.json`; empty in one that has none.

    Raises:
        UserError: if they are not as a study writes them.
    """
    found = table.get("fair", [])
    keys = {"row": str, "columns": list, "word": str, "sentence": str}
    whole = isinstance(found, list) and all(
        isinstance(item, dict) and all(isinstance(item.get(key), kind) for key, kind in keys.items()) for item in found
    )
    if not whole:
        raise UserError(
            f"table.json, fair: expected a list of verdicts with {', '.join(keys)}, found {str(found)[:80]}; run "
            "`python -m src study` again to write it anew"
        )
    return list(found)


class Comparison(NamedTuple):
    """A row against the baseline in a mIoU column of a study."""

    row: dict[str, Any]  # its entry in table.json
    column: dict[str, Any]
    evaluations: list[Path]  # cells of the row
    pairs: list[tuple[Path, Path]]  # finished cells (baseline, row), one pair a seed


def comparisons(folder: Path, table: dict[str, Any]) -> Iterator[Comparison]:
    """Each row of a study but the baseline, in each of its mIoU columns.

    Args:
        folder: The cells are in `cells/` within it (published) or next to it (a study's run folder).
        table: Its `table.json`.
    """
    cells = next((place for place in (folder / "cells", folder.parent / "cells") if place.is_dir()), folder / "cells")
    baseline = next(row for row in table["rows"] if row["name"] == table["baseline"])
    for row in table["rows"]:
        for column in table["columns"]:
            if row is not baseline and column["metric"] == "miou":
                before, after = (
                    [cells / cell for cell in each["entries"][column["name"]]["cells"]] for each in (baseline, row)
                )
                if after:  # empty in a column that the row is not measured in
                    yield Comparison(row, column, after, paired_folders(before, after))


def paired_folders(baseline: list[Path], adapted: list[Path]) -> list[tuple[Path, Path]]:
    """Finished cells of both rows, seed by seed; a baseline without randomness has one, which is paired with each."""
    before = baseline * len(adapted) if len(baseline) == 1 else baseline
    return [pair for pair in zip(before, adapted, strict=True) if all(map(finished, pair))]


def judge_folders(pairs: list[tuple[Path, Path]]) -> Verdict:
    """The verdict on pairs of evaluations (baseline, adapted), one pair a seed.

    Raises:
        UserError: if two of them were not evaluated on the same images.
    """
    before, after = ([counted_images(pair[side]) for pair in pairs] for side in (0, 1))
    for counted, path in zip([*before, *after], [pair[side] for side in (0, 1) for pair in pairs], strict=True):
        if counted.names != before[0].names:
            raise UserError(
                f"{path} was not evaluated on the same images as {pairs[0][0]}; the rows cannot be compared"
            )
    metrics = read_json(pairs[0][0] / "metrics.json", METRICS) or {"values": {}}
    classes = before[0].overlaps.shape[-1]
    names = metrics["values"].get("class_names", list(map(str, range(classes))))
    return judge_overlaps([item.overlaps for item in before], [item.overlaps for item in after], names)


class PerImage(NamedTuple):
    """Intersections and unions [N, 2, C] of an evaluation, and the names of its images."""

    overlaps: Array
    names: tuple[str, ...]


def counted_images(folder: Path) -> PerImage:
    """As `per_image`, of a cell whose matrices are there.

    Raises:
        MissingFile: if they are not.
    """
    found = per_image(folder)
    if found is None:
        raise MissingFile(f"{folder / 'confusion.npz'}: no such file, or a damaged one; run the study again")
    return found


def per_image(folder: Path) -> PerImage | None:
    """The part of a finished cell's confusion matrices that a verdict needs, a hundredth of them; None without any."""
    file = folder / "confusion.npz"
    return _per_image(file, file.stat().st_mtime_ns) if file.is_file() else None


@lru_cache(maxsize=256)  # the baseline's are asked for once for each other row
def _per_image(path: Path, written: int) -> PerImage | None:
    try:
        stored = read_arrays(path)
    except UserError as error:
        damaged(path, str(error).removeprefix(f"{path}: "))
        return None
    matrices, names = stored.get("matrices"), stored.get("names")
    if matrices is None or names is None or matrices.ndim != 3 or len(names) != len(matrices):
        damaged(path, f"expected one matrix an image, found {', '.join(stored) or 'no arrays'}")
        return None
    return PerImage(overlaps(matrices), tuple(names.tolist()))


def pretrainings(evaluations: list[Path]) -> list[Path]:
    """The pre-trainings that evaluations rest on, each once, where the cells say it."""
    needed = {cell: (read_json(cell / "cell.json") or {}).get("needs") for cell in evaluations}
    return list(dict.fromkeys(cell.parent / name for cell, name in needed.items() if name is not None))


def from_json(content: dict[str, Any]) -> Verdict:
    """A verdict as `table.json` keeps it."""
    return Verdict(
        miou=Interval(**content["miou"]),
        classes={name: Interval(**item) for name, item in content["classes"].items()},
        seeds=content["seeds"],
        images=content["images"],
        level=content["level"],
    )
