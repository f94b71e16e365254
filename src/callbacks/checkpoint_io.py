"""Write and read Lightning's checkpoints by `src.core.checkpoint_files`."""

from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from src.core.checkpoint_files import load_checkpoint, save_checkpoint
from src.core.checkpoint_paths import previous_of
from src.core.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints next to their target and keep the previous one; load that one if the newest is damaged.

    Lightning's own plugin writes via ``$TMPDIR`` and, on another file system, truncates the old file before the new one
    is copied. Remote paths such as ``s3://…`` are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            TypeError: If `storage_options` are given, which are not supported.
        """
        local = _local(path)
        if local is None or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            save_checkpoint(checkpoint, local)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, or the previous one.

        Raises:
            MissingFile: If neither exists.
            UserError: If neither can be read completely, or it is not a run's checkpoint.
        """
        local = _local(path)
        if local is None:
            return super().load_checkpoint(path, map_location, weights_only)
        announce = getattr(rank_zero_only, "rank", 0) == 0
        content = load_checkpoint(local, map_location, weights_only, announce)
        state, version = content.get("state_dict"), content.get("pytorch-lightning_version")
        if not isinstance(state, dict) or not isinstance(version, str):
            some = ", ".join(map(repr, list(content)[:4])) or "nothing"
            raise UserError(
                f"{path}: expected a run's checkpoint (checkpoints/last.ckpt), found a file of {some}; the weights of "
                "a backbone are given as model.init_args.backbone.init_args.weights"
            )
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its previous version."""
        super().remove_checkpoint(path)
        local = _local(path)
        if local is not None:
            previous_of(local).unlink(missing_ok=True)


def with_atomic_files(plugins: Any) -> list[Any]:
    """Add `AtomicCheckpointIO` to a trainer's plugins, unless they have a ``CheckpointIO``.

    Args:
        plugins: The trainer's argument: None, one plugin or several.
    """
    given = [] if plugins is None else list(plugins) if isinstance(plugins, list | tuple | set) else [plugins]
    return given if any(isinstance(plugin, CheckpointIO) for plugin in given) else [*given, AtomicCheckpointIO()]


def _local(path: str | Path) -> Path | None:
    """The path on this machine's file systems, or None for a remote one."""
    system, name = url_to_fs(str(path))
    return Path(name) if isinstance(system, LocalFileSystem) else None
