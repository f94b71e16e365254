"""Forecast of a study: state, prerequisites and cost of each cell."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from src.config.nearest import nearest
from src.core.errors import CommandLineError, MissingFile, UserError
from src.core.process_lock import EXPIRY, abandoned
from src.studies.plan.cells import Cell, Store
from src.studies.run.estimate import Measured, clock

UNKNOWN = "unknown"  # instead of a hash, which is made of the content of data and files that are not there


def state(store: Store, cell: Cell) -> str:
    """Describe a cell in one word or a few: done, running, failed, waiting, missing or unknown."""
    if store.done(cell):
        return "done"
    if cell.missing:
        return UNKNOWN
    lock = store.folder(cell) / "lock"
    if lock.exists() and not abandoned(lock, EXPIRY):
        return "running"
    if store.failure(cell) is not None:
        return "failed"
    return "waiting" if cell.needs is not None and not store.done(cell.needs) else "missing"


def listing(store: Store, cells: Iterable[Cell]) -> str:
    """Return a line for each cell, of four columns that tabs separate.

    They are its hash, its state, the hash of the cell that it needs (`-` if none) and its title. A cell whose state is
    `missing` or `failed` can run now, a `waiting` one after the cell that it needs.
    """
    return "\n".join(
        "\t".join([name(cell), state(store, cell), "-" if cell.needs is None else name(cell.needs), cell.title])
        for cell in cells
    )


def name(cell: Cell) -> str:
    """The cell's hash, or `unknown`."""
    return UNKNOWN if cell.missing else cell.identity


def chosen(store: Store, cells: Sequence[Cell], identity: str) -> Cell:
    """Return the cell of this hash.

    Raises:
        CommandLineError: If there is none.
        UserError: If the cell that it needs is not done.
    """
    for cell in cells:
        if cell.identity == identity and not cell.missing:
            if cell.needs is not None and not store.done(cell.needs):
                raise UserError(
                    f"--cell {identity}: {cell.title} needs {cell.needs.title}; run --cell {cell.needs.identity} first"
                )
            return cell
    known = [cell.identity for cell in cells if not cell.missing]
    suggestion = nearest(identity, known) if len(known) > 0 else ""
    raise CommandLineError(f"--cell: no cell {identity!r}{suggestion}; --list prints the cells of the study")


def check_complete(store: Store, cells: Iterable[Cell]) -> None:
    """Refuse to run cells that lack something.

    Raises:
        MissingFile: Naming everything that any of them lacks.
    """
    if lines := lacks(cell for cell in cells if not store.done(cell)):
        raise MissingFile("this study lacks:\n" + "\n".join(f"  {line}" for line in lines))


def lacks(cells: Iterable[Cell]) -> list[str]:
    """Return everything that any of the cells lacks, each once, with the number of cells that lack it."""
    counts: dict[str, int] = {}
    for cell in cells:
        for line in cell.missing:
            counts[line] = counts.get(line, 0) + 1
    return [f"{line} ({count} {'cell' if count == 1 else 'cells'})" for line, count in counts.items()]


def plan(store: Store, cells: Sequence[Cell]) -> str:
    """Describe what would run, what it lacks, and its cost as measured here or as the configurations state it."""
    measured = Measured.of(store, cells)
    lines: list[str] = []
    missing = [cell for cell in cells if not store.done(cell)]
    for number, cell in enumerate(cells, start=1):
        words = state(store, cell)
        if words in ("missing", "waiting", "failed"):
            words = "would run"
        elif words == "running":
            words = "another process runs it"
        elif words == UNKNOWN:
            words = "would run; unless it is done already; its hash is unknown"
        if words != "done":
            words += _cost(measured.seconds(cell), cell.stated.seconds)
        lines.append(f"[{number}/{len(cells)}] {name(cell)} {cell.title}: {words}")
    total = f"{len(missing)} of {len(cells)} stages would run" + "".join(_costs(measured, missing))
    if needed := lacks(missing):
        total += "\nmissing on this machine:\n" + "\n".join(f"  {line}" for line in needed)
    return "\n".join([*lines, total])


def _cost(here: float | None, stated: float | None) -> str:
    if here is not None:
        return f", about {clock(max(1, here))}"
    return "" if stated is None else f", about {clock(max(1, stated))} as its yaml states"


def _costs(measured: Measured, missing: Sequence[Cell]) -> Iterable[str]:
    """The parts of a sentence on the cost of all cells."""
    here = [measured.seconds(cell) for cell in missing]
    stated = [cell.stated.seconds for cell, seconds in zip(missing, here, strict=True) if seconds is None]
    times = []
    if known := [seconds for seconds in here if seconds is not None]:
        times.append(f"about {clock(max(1, sum(known)))}")
    if known := [seconds for seconds in stated if seconds is not None]:
        times.append(f"about {clock(max(1, sum(known)))} as their yamls state")
    if times:
        yield ", " + " and ".join(times) + " one after another"
    if unknown := sum(seconds is None for seconds in stated):
        yield f"{' and' if times else ';'} {unknown} {'more ' if times else ''}of unknown duration"
    peaks = [peak for cell in missing for peak in measured.memory.get(cell.stage, [])]
    peaks = peaks or [cell.stated.memory for cell in missing if cell.stated.memory is not None]
    if peaks:
        yield f"; at most {max(peaks) / 2**30:.1f} GiB of memory each"
    if disk := sum(fmean(sizes) for cell in missing if (sizes := measured.disk.get(cell.stage))):
        yield f", {disk / 2**20:.0f} MiB of disk"
