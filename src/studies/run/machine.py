"""Hardware, versions and commit, for a cell's provenance."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from src.config.composition import Config
from src.core.cores import usable_cores
from src.core.import_path import HOME


@cache
def machine() -> Config:
    """Commit, hardware and versions, for information only."""
    return {
        "commit": commit(),
        "hardware": hardware(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "lightning", "timm")},
    }


def commit() -> str:
    """The working tree's commit; `-dirty` if a tracked file, published results not counted, differs from it.

    An installed package has none, whatever repository the environment is in: its version.
    """
    top = output("git", "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != HOME:
        return release()
    found = output("git", "rev-parse", "--short=12", "HEAD")
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    return f"{found or 'unknown'}{'-dirty' if changed else ''}"


def release() -> str:
    """The installed package's version; `unknown` for a copy that is not installed."""
    try:
        return f"version {version('glare-lightning')}"
    except PackageNotFoundError:
        return "unknown"


def hardware() -> str:
    """Names of processor and accelerators."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    return " + ".join([f"{processor}, {usable_cores()} cores", *accelerators()])


def accelerators() -> list[str]:
    """The names of the NVIDIA devices that the driver shows; found without importing torch."""
    return output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def output(*command: str) -> str:
    """Output of a command; empty if it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=HOME, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
