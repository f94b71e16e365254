"""The parser of Lightning's commands: configurations from the one YAML reader, errors raised instead of printed."""

import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from src.config.argument_types import integers_first
from src.config.part_files import check_part_files
from src.config.yaml_reader import quoted, read
from src.core.errors import CommandLineError, UserError

# Base classes of the objects that `--model` and `--data` inject.
INJECTED = {"model": LightningModule, "data": LightningDataModule}


class Parser(LightningArgumentParser):
    """Parser that raises where the original prints usage and exits, and knows the class of each argument group."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.groups_of_classes: dict[str, type] = {}

    def add_lightning_class_args(self, lightning_class: Any, nested_key: str, *args: Any, **options: Any) -> list[str]:
        if isinstance(lightning_class, type) and nested_key not in INJECTED:
            self.groups_of_classes[nested_key] = lightning_class
            integers_first(lightning_class)
        return super().add_lightning_class_args(lightning_class, nested_key, *args, **options)

    def parse_string(self, content: str, path: str | os.PathLike[str] = "", *args: Any, **options: Any) -> Namespace:
        """Parse a configuration; files are read by the one YAML reader, with the files that they extend."""
        if path:  # relative to the file's folder, to which jsonargparse changes meanwhile
            try:
                config = read(Path(path))
            except UserError as error:
                raise CommandLineError(str(error)) from error
            check_part_files(Path(path), config, INJECTED, self.groups_of_classes)
            content = quoted(config)
        return super().parse_string(content, path, *args, **options)

    def parse_path(self, cfg_path: Any, *args: Any, **options: Any) -> Namespace:
        """Parse a configuration file, which has to be text."""
        try:
            return super().parse_path(cfg_path, *args, **options)
        except UnicodeDecodeError as error:
            raise CommandLineError(
                f"--config {cfg_path}: expected a configuration as UTF-8 text, found the byte "
                f"0x{error.object[error.start]:02x}"
            ) from error

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise CommandLineError(message) from ex
