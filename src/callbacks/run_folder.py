"""Start of a run folder: write the resolved configuration, and move an earlier run's files aside."""

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from src.config.composition import Config, differences
from src.config.hashing import config_hash, resolved
from src.config.yaml_reader import parse, read
from src.core.atomic_files import make_folder, remove_leftovers, write_text
from src.core.errors import UserError

# files of a fit, which a new fit in the same folder would overwrite
_OF_A_FIT = (
    "config.yaml", "metrics.csv", "checkpoints", "pictures", "explanations",
    "adapter.safetensors", "adapter-best.safetensors", "guards.json", "README.md",
    "evaluation.json", "confusion.npz", "probe.npz",
)  # fmt: skip
_WHILE_IT_RUNS = ("checkpoints/adapter-good.safetensors",)
_TOLD = 5  # changed settings that are listed in full


class RunFolder(SaveConfigCallback):
    """Writes the resolved configuration to the run folder.

    A fit writes ``config.yaml``, with its hash in the first line; other commands ``config-test.yaml`` and so on. A new
    fit in the folder of an earlier one first moves that one's files to ``earlier/1`` (2, 3, …), so nothing is
    overwritten. A resume writes after its checkpoint has been accepted, and reports changed settings. Weights & Biases
    gets the configuration under one key, `config`, because sweeps lock top-level keys.
    """

    _replaced = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.already_saved:
            return
        self.already_saved = True
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        make_folder(folder)
        if stage == "fit":
            for path in (folder / name for name in (*_OF_A_FIT, *_WHILE_IT_RUNS)):
                if path.parent.is_dir():
                    remove_leftovers(path)  # a part that a killed fit was writing
        if stage == "fit" and not self.config.get("ckpt_path"):
            _keep_earlier(folder)
        self._content = self._described(trainer, pl_module, stage)
        if not (stage == "fit" and self.config.get("ckpt_path")):
            self._write(trainer, stage)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams({"config": parse(self._content, "config.yaml")})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the configuration of a run that is resumed."""
        self._accepted(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Also for a complete run, with nothing left to train."""
        self._accepted(trainer)

    def _accepted(self, trainer: Trainer) -> None:
        if self._replaced or not (self.config.get("ckpt_path") and trainer.is_global_zero):
            return
        self._replaced = True
        path = Path(trainer.default_root_dir) / "config.yaml"
        if path.is_file() and (changed := _changed(path, parse(self._content, "config.yaml"))):
            rank_zero_warn(
                f"{path.parent} is resumed with other settings than it was started with ({changed}): its result "
                "depends on both"
            )
        self._write(trainer, "fit")

    def _write(self, trainer: Trainer, stage: str) -> None:
        name = "config.yaml" if stage == "fit" else f"config-{TrainerFn(stage).value}.yaml"
        write_text(Path(trainer.default_root_dir) / name, self._content)

    def _described(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> str:
        """The resolved configuration as text, with its hash."""
        kept = self.config.clone()
        kept.ckpt_path, kept.weights_only = None, True  # of this call only, and set by the command line only
        _say_classes(kept, trainer, pl_module)
        text = self.parser.dump(kept, skip_none=False, format="yaml")
        made = config_hash(parse(text, "config.yaml"))
        if hasattr(pl_module, "config_hash"):
            pl_module.config_hash = made  # type: ignore[assignment]
        return f"# config_hash: {made}\n{text}"


def _changed(path: Path, content: Config) -> str:
    """Settings that affect the result and differ from those in a file, as `key: old → new`; empty if none do."""
    try:
        before = resolved(read(path))
    except UserError:  # damaged, or with classes that no longer exist
        return "the earlier ones cannot be read"
    told = differences(before, resolved(content))
    return ", ".join(told[:_TOLD]) + (f" and {len(told) - _TOLD} more" if len(told) > _TOLD else "")


def _say_classes(config: Any, trainer: Trainer, module: LightningModule) -> None:
    """Record the classes found in a folder's masks in a configuration that does not name them."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    data = getattr(data, "inner", data)  # of cached features
    arguments = config.get("data.init_args")
    open_ids = arguments is not None and "class_ids" in arguments and arguments.get("class_names") is None
    if open_ids and hasattr(module, "class_names") and getattr(data, "described", None) is None:
        arguments["class_ids"], arguments["class_names"] = list(data.class_ids), list(data.class_names)


def _keep_earlier(folder: Path) -> None:
    left = [folder / name for name in _OF_A_FIT if (folder / name).exists()]
    if not left:
        return
    number = 1
    while (folder / "earlier" / str(number)).exists():
        number += 1
    kept = folder / "earlier" / str(number)
    kept.mkdir(parents=True)
    for path in left:
        path.rename(kept / path.name)
    print(f"{folder} held an earlier run; its files are now in {kept}", file=sys.stderr)
