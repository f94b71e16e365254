"""The console script ``glare``: the commands of ``python -m src``, whatever the current folder holds."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent
PACKAGES = ("src", "datamodules")


def shadowed() -> str | None:
    """Error message for a package that shadows one of this project's; None if there is none."""
    for name in PACKAGES:
        spec = find_spec(name)
        found = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if not found or found[0] != HOME / name:
            where = found[0] if found else spec.origin if spec else "nothing"
            return (
                f"expected the package {name} of glare-lightning in {HOME / name}, found {where}: another package of "
                "that name comes first on the import path; take its folder out of PYTHONPATH, or uninstall it"
            )
    return None


def main() -> int:
    """Run one command; the exit code is that of ``python -m src``."""
    complaint = shadowed()
    if complaint is not None:
        print(f"error: {complaint}", file=sys.stderr)
        return 2
    return int(import_module("src.__main__").main())


if __name__ == "__main__":
    sys.exit(main())
