"""``python -m src {fit,validate,test,predict}``: LightningCLI with class injection, and a run folder for each run."""

import logging
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn

from src.callbacks.checkpoint import RunCheckpoint
from src.callbacks.checkpoint_io import with_atomic_files
from src.callbacks.explanations import Explanations
from src.callbacks.launcher import failing_together, started_by_another, watch
from src.callbacks.loggers import MetricsFile, RunLogger, TensorBoard
from src.callbacks.pictures import SegmentationPictures
from src.callbacks.predictions import PredictionWriter
from src.callbacks.progress import Progress
from src.callbacks.recipe import Recipe
from src.callbacks.run_folder import RunFolder
from src.callbacks.shared_files import SharedFiles
from src.callbacks.throughput import Throughput
from src.callbacks.weights_and_biases import Wandb
from src.config.defaults import TRAINER_DEFAULTS
from src.config.environment import expand_environment
from src.config.flags import USAGE, check_config_given
from src.config.injection import check_command_line_only, check_injected, guarded_imports
from src.config.keys import as_parsed
from src.config.parser import INJECTED, Parser
from src.config.prerequisites import check_files, check_sizes, check_writable
from src.config.refusals import refused as values_refused
from src.config.suggestions import accepted_arguments, explain, find, misspelt, place
from src.config.sweep_arguments import from_agent
from src.config.trained_head import drop_lost_adapter, recorded
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import CommandLineError, MissingFile
from src.monitoring.divergence import DivergenceGuard
from src.monitoring.guards import Guards
from src.monitoring.monitor import Monitor

# Imported so that `--trainer.logger` knows these classes by their bare names.
LOGGERS = (TensorBoard, Wandb)

# Arguments that models take from the data, under the same names.
LINKS = ("num_classes", "ignore_index", "class_names")

# Expected warnings: Lightning's use of torch, a frozen backbone in evaluation mode, no validation, epochs
# that are shorter than the logging interval (rows count steps, over all epochs), tuples, which are lists in yaml,
# and a machine of a cluster on which something runs without SLURM.
NOISE = (
    ".*treespec.*LeafSpec.*", ".*module.s. in eval mode.*", ".*but have no `validation_step`.*",
    ".*is smaller than the logging interval.*", r"\s*Dump of a value that does not round-trip: a tuple",
    ".*`srun` command is available.*",
)  # fmt: skip

# Methods that a command needs of its model.
STEPS = {"validate": "validation_step", "test": "test_step", "predict": "predict_step"}


class CLI(LightningCLI):
    """One command: parse, build data, model and trainer, and run."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self._classes: dict[str, Any] | None = None  # of a trained head
        options = {command: {"usage": USAGE.format(command=command)} for command in self.subcommands()}
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunFolder,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False, "prog": "python -m src", **options},
            args=self.arguments,
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the requested one: building the parsers of all four takes seconds."""
        every = LightningCLI.subcommands()
        return {name: every[name] for name in self.arguments[:1] if name in every} or every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in LINKS:
            parser.link_arguments("data", f"model.init_args.{name}", partial(self._told, name), apply_on="instantiate")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        # both ignore fits other than continual pre-training; the monitor runs before the guards, which judge its
        # metrics
        parser.add_lightning_class_args(Monitor, "monitor")
        parser.add_lightning_class_args(Guards, "guards")
        if self.arguments[:1] == ["predict"]:
            parser.add_lightning_class_args(PredictionWriter, "predictions")

    def _told(self, name: str, data: LightningDataModule) -> Any:
        """An attribute of the data, if the model takes it: images without masks have no classes.

        A trained head keeps its own classes, whatever the tested folder holds.
        """
        accepted = accepted_arguments(self.config[self.config.subcommand].model.class_path)
        if accepted is not None and name not in accepted:
            return None
        if self._classes is None or name == "ignore_index":
            return getattr(data, name)
        ids, names = list(self._classes["ids"]), list(self._classes["names"])
        if hasattr(data, "expect_classes"):
            data.expect_classes(ids, names)
        return len(names) if name == "num_classes" else names

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        command, *rest = self.arguments
        keys = [action.dest for action in self._parser(command)._actions]
        with guarded_imports() as refused:
            try:
                self.config = parser.parse_args(args)
            except CommandLineError as error:
                if not refused:
                    raise CommandLineError(explain(rest, keys, str(error))) from error
        for path, reason in refused:  # also where jsonargparse fell back to text
            raise CommandLineError(f"{place(rest, path)}{reason}")
        # a flag into a missing entry, such as objectives.locl, would silently create one
        if wrong := misspelt(rest, keys):
            raise CommandLineError(wrong)

    def _set_seed(self) -> None:
        with values_refused("seed_everything"):
            super()._set_seed()

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        with values_refused("model or data", "Does not validate against any of the Union subtypes"):
            super().instantiate_classes()
        if hasattr(self.datamodule, "resumes"):
            self.datamodule.resumes = bool(self._get(self.config, "ckpt_path"))

    def _parse_ckpt_path(self) -> None:
        """Lightning would merge the checkpoint's hyper-parameters over the yaml, which has to win."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.config.subcommand]
        check_command_line_only(config, self.arguments)
        if config.get("weights_only") is None:
            config.weights_only = True  # this project's checkpoints are plain tensors: never run code from a file
        elif config.weights_only is False:
            rank_zero_warn(
                "--weights_only false: the checkpoint can run any code; use it only for files that you trust"
            )
        if config.get("return_predictions") is None and "return_predictions" in config:
            config.return_predictions = (
                False  # they are on disk already, and the masks of a large folder would fill the memory
            )
        expand_environment(config)
        parser = self._parser(self.subcommand)
        assert isinstance(parser, Parser)
        check_injected(config, INJECTED, parser.groups_of_classes)  # with the variables filled in
        self._require_step(config.model.class_path)
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(RunCheckpoint.file(config.trainer.default_root_dir))
        if config.get("ckpt_path") and not checkpoint_exists(config.ckpt_path):
            raise MissingFile(f"--ckpt_path {config.ckpt_path}: no such file (a run keeps checkpoints/last.ckpt)")
        if self.subcommand != "fit" and config.get("ckpt_path"):
            head = recorded(config.ckpt_path)
            self._classes = head.get("classes")
            drop_lost_adapter(config, self.arguments, head.get("adapter"))
        model = config.model.class_path
        trained = getattr(find(model), "needs_checkpoint", False)
        if self.subcommand != "fit" and not config.get("ckpt_path") and trained:
            raise CommandLineError(
                f"{self.subcommand}: no trained head for {model}; add --ckpt_path last, which is "
                f"{RunCheckpoint.file(config.trainer.default_root_dir)}, or the path of another checkpoint"
            )
        plain = config.as_dict()
        check_writable(config.trainer.default_root_dir)
        check_files(plain)
        if self.subcommand == "fit" or not trained:  # a trained head pads its images
            check_sizes(plain)

    def _require_step(self, model: str) -> None:
        """Refuse to evaluate or predict with a model that only trains, such as pre-training.

        Raises:
            CommandLineError: For such a model.
        """
        step = STEPS.get(str(self.subcommand))
        if step is not None and getattr(find(model), step, None) is getattr(LightningModule, step):
            raise CommandLineError(
                f"{self.subcommand}: expected the configuration of a segmentation head or a probe, found {model}, "
                "which only trains; fit a head on its adapter.safetensors (--model.init_args.backbone.init_args."
                "adapter) and give that run's config.yaml, or look at it with python -m src inspect"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self._get(self.config_init, "trainer")
        run_folder = Path(settings["default_root_dir"])
        given = settings["logger"]
        loggers: list[Logger] = [] if given in (None, True, False) else [given] if isinstance(given, Logger) else given
        fresh = self.subcommand == "fit" and not self._get(self.config, "ckpt_path")
        for logger in loggers:
            if isinstance(logger, RunLogger):
                logger.attach(run_folder, fresh)
        return super().instantiate_trainer(logger=given is not False and [MetricsFile(run_folder), *loggers], **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        # Lightning refuses a callback whose feature is switched off, and guards without files cannot restore anything
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, (RunCheckpoint, Guards))]
        if config["enable_progress_bar"] is not False:
            callbacks = [*callbacks, Progress()]
        for drawing in (SegmentationPictures, Explanations):
            if not any(isinstance(callback, drawing) for callback in [*callbacks, *(config["callbacks"] or ())]):
                callbacks = [*callbacks, drawing()]
        config["plugins"] = with_atomic_files(config.get("plugins"))
        if (interval := config.get("log_every_n_steps")) is not None and interval < 1:
            raise CommandLineError(f"trainer.log_every_n_steps: expected 1 or more, found {interval}")
        for name in ("max_steps", "max_epochs") if self.subcommand == "fit" else ():
            if config.get(name) == 0:
                raise CommandLineError(f"trainer.{name}: expected 1 or more, or -1 for no limit, found 0")
        with values_refused("trainer"):
            trainer = super()._instantiate_trainer(
                config, [*callbacks, DivergenceGuard(), Recipe(), SharedFiles(), Throughput()]
            )
        watch(trainer)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with failing_together(self.trainer):
                super()._run_subcommand(subcommand)
        except (SystemExit, RuntimeError) as error:
            if isinstance(error, SystemExit) and started_by_another():
                raise
            # Lightning exits with 1 after Ctrl-C, and a DataLoader whose workers received it raises RuntimeError
            stopped = any(getattr(callback, "interrupted", False) for callback in self.trainer.checkpoint_callbacks)
            if isinstance(error, SystemExit) or stopped:
                raise KeyboardInterrupt from error
            raise


def main(arguments: Sequence[str]) -> CLI:
    """Run one of Lightning's commands.

    Args:
        arguments: the command and its options, such as ``["fit", "--config", "X.yaml"]``.

    Returns:
        The finished command line, with its `trainer`, `model` and `datamodule`.

    Raises:
        CommandLineError: if the options or a configuration file are wrong; the message is one line.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    for noise in NOISE:
        warnings.filterwarnings("ignore", message=noise)
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "litlogger" not in record.getMessage())  # an advertisement
    arguments = as_parsed(arguments)
    check_config_given(arguments)
    return CLI(from_agent(arguments) if "WANDB_SWEEP_ID" in os.environ else arguments)
