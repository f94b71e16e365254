"""Options of commands of our own: one line where something is wrong, as everywhere on this command line."""

import argparse
from typing import NoReturn

from src.core.errors import CommandLineError


class OptionParser(argparse.ArgumentParser):
    """Raises where the original prints a usage block and exits."""

    def error(self, message: str) -> NoReturn:
        raise CommandLineError(f"{message}; see {self.prog} --help")
