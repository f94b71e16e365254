"""HEIC and HEIF images from phones, through the extra `heic`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from datamodules.reading.errors import ImageError

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_installed() -> bool:
    """Return True if pillow-heif, the extra `heic`, can be imported."""
    return find_spec("pillow_heif") is not None


def register(path: Path) -> None:
    """Register the format with Pillow if the file has it, whatever its suffix: phones write HEIC into .jpg as well.

    Raises:
        ImageError: If the extra is missing.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in _BRANDS:
        return
    if not is_installed():
        raise ImageError(
            f"{path}: expected an image, found HEIC, which needs an extra; pip install 'glare-lightning[heic]', or "
            "save the photographs as JPEG"
        )
    _register()


@cache
def _register() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
