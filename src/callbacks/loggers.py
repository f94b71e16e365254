"""Loggers: metrics.csv always, TensorBoard on request."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from src.core.atomic_files import make_folder, replacing, writing
from src.core.metrics_table import MetricsTable, read_columns, read_table, write_table


@runtime_checkable
class RunLogger(Protocol):
    """A logger that writes to the run folder."""

    def attach(self, run_folder: Path, fresh: bool) -> None:
        """Set the folder, and whether a new run starts there (no resume); called once, before the run."""


class MetricsFile(Logger):
    """``<run folder>/metrics.csv``: a row per logged step, appended and flushed, so that a kill loses nothing.

    Rows of an earlier part of the run are kept. After a resume from an older checkpoint some steps have two rows, of
    which the later one is valid. A new metric becomes a new column.

    Args:
        run_folder: the run folder; created with the first row.
    """

    def __init__(self, run_folder: str | Path) -> None:
        super().__init__()
        self.path = Path(run_folder) / "metrics.csv"
        self._last: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """No subfolder for its name or version."""
        return ""

    @property
    def version(self) -> str:
        """No subfolder for its name or version."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder; Lightning's `trainer.log_dir`."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in the run folder's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row.

        Args:
            metrics: name → value.
            step: optimiser step.
        """
        row: dict[str, Any] = {"step": step, **metrics}
        if row == self._last:  # of a step that was logged before its checkpoint
            return
        self._last = row
        columns = read_columns(self.path)
        if missing := [name for name in row if name not in columns]:
            columns = [*columns, *sorted(missing, key=lambda name: (name not in ("step", "epoch"), name))]
            self._rewrite(columns)
        with writing(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow(row)

    def _rewrite(self, columns: list[str]) -> None:
        """Rewrite the rows with more columns, atomically."""
        rows = read_table(self.path).rows
        make_folder(self.path.parent)
        with replacing(self.path) as part:
            write_table(part, MetricsTable(columns, rows))


class TensorBoard(TensorBoardLogger):
    """Event files in ``<run folder>/tensorboard``: ``--trainer.logger TensorBoard``."""

    def __init__(self) -> None:
        super().__init__(save_dir=".", name="tensorboard", version="")

    def attach(self, run_folder: Path, fresh: bool) -> None:
        """Write to `run_folder`."""
        super().__init__(save_dir=run_folder, name="tensorboard", version="")
