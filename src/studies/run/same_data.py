"""Check that a study's data have not changed since its finished cells were computed.

A cell's hash holds names and sizes of its data's files. A redrawn, uncompressed mask may keep both, so the first study
on a data set records a hash of contents next to the cells, and later ones compare it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from src.config.composition import lookup
from src.config.hashing import manifest
from src.core.atomic_files import make_folder
from src.core.errors import UserError
from src.core.file_contents import SAMPLES, hash_of_files
from src.core.json_files import read_json, write_json
from src.studies.plan.cells import Cell, Store


def check_same_data(store: Store, cells: Iterable[Cell]) -> None:
    """Compare the contents of the cells' data with those noted for the same names and sizes; note them if none are.

    Raises:
        UserError: Naming a folder whose contents have changed.
    """
    roots = {os.path.expandvars(str(root)) for cell in cells if (root := lookup(cell.config, "data.init_args.root"))}
    for root in sorted(roots):
        folder = Path(root)
        path = store.root / ".data" / f"{manifest(folder)}.json"
        found, noted = contents(folder), read_json(path, {"contents": str})
        if noted is None:
            make_folder(path.parent)
            write_json(path, {"contents": found, "folder": root})
        elif noted["contents"] != found:
            raise UserError(
                f"{folder}: the files have the same names and sizes as when the cells in {store.root} were computed, "
                "but other contents; restore the files, or give another --runs, so that no table mixes both"
            )


def contents(folder: Path) -> str:
    """Hash of the contents of a folder's files; of more than `SAMPLES`, of as many spread evenly over their names."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )
    return hash_of_files(files[:: max(1, -(-len(files) // SAMPLES))])
