"""Data sets of the catalogue with a few files each, that come from a server on this machine."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.downloading import Download
from datamodules.preparing.recipe import Archive, Preparation
from tests.datamodules.preparing.local_server import LocalServer


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


def small(real: Preparation, counts: dict[str, int], archives: tuple[Archive, ...] = ()) -> Preparation:
    """The same with other counts, and other archives or none."""
    splits = tuple(dataclasses.replace(split, count=counts[split.name]) for split in real.splits)
    return dataclasses.replace(real, splits=splits, archives=archives)


def serve(
    monkeypatch: pytest.MonkeyPatch,
    server: LocalServer,
    name: str,
    contents: dict[str, bytes],
    counts: dict[str, int],
) -> None:
    """Lets archives of a data set come from the server, without checksums, and sets its counts.

    Args:
        monkeypatch: Of the test.
        server: Gets `/NAME` for each archive that has contents; those without can't be had.
        name: In the catalogue.
        contents: Name of an archive → its bytes.
        counts: Split → how many images there have to be.
    """
    real = CATALOGUE[name]
    server.files |= {f"/{archive}": content for archive, content in contents.items()}
    archives = tuple(
        dataclasses.replace(archive, download=Download(key, (f"{server.url}/{key}",)))
        for archive in real.archives
        for key in (archive.download.name,)
    )
    monkeypatch.setitem(CATALOGUE, name, small(real, counts, archives))
