"""Names of a run's checkpoints, without importing torch, for code that only checks if there is one to resume."""

from pathlib import Path


def previous_of(path: str | Path) -> Path:
    """The file with the checkpoint before `path`: `last.previous.ckpt` for `last.ckpt`."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def checkpoint_exists(path: str | Path) -> bool:
    """Return True if a checkpoint can be loaded from `path`: the file itself or the previous one."""
    return Path(path).exists() or previous_of(path).is_file()
