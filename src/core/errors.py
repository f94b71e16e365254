"""Report expected errors as one line and an exit code; every other exception keeps its traceback."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from src.core.printable import printable
from src.core.standard_output import reader_gone

# torch's wrapping of an exception that a DataLoader worker raised
_WORKER = re.compile(r"Caught \w+ in .*?worker process.*?Original Traceback.*?(?P<trace>  File .*)", re.DOTALL)

_DATABASE = (
    "database or disk is full", "disk I/O error", "attempt to write a readonly database", "unable to open database file"
)  # fmt: skip
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # a full or read-only disk


BROKEN_PIPE = 141  # as in a shell after SIGPIPE


class UserError(ValueError):
    """A mistake that the user can fix; its message says what was expected, what was found, and what to do."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder given by the user does not exist."""

    def __str__(self) -> str:
        return ValueError.__str__(self)  # otherwise OSError formats errno and file name


class Unwritable(UserError, OSError):
    """A file or folder cannot be written: no space, no permission, or another obstacle."""

    def __str__(self) -> str:
        return ValueError.__str__(self)


class Diverged(UserError):
    """Training has become NaN or infinite: its state is useless."""


class CommandLineError(UserError):
    """The command line or a configuration file is wrong: exit code 2."""


@contextmanager
def wrong_command_line() -> Iterator[None]:
    """Raise every `UserError` within the block as a `CommandLineError`, since the block reads user input.

    Raises:
        CommandLineError: With the message of the original.
    """
    try:
        yield
    except CommandLineError:
        raise
    except UserError as error:
        raise CommandLineError(str(error)) from error


@dataclass
class Outcome:
    """Exit code of a command: 0 done, 1 failed, 2 wrong command line, 130 interrupted, 141 output no longer read."""

    code: int = 0


@contextmanager
def one_message() -> Iterator[Outcome]:
    """Convert a command's errors to one message on stderr and an exit code.

    `GLARE_TRACEBACK=1` in the environment shows the traceback of every failure; otherwise only unexpected ones, which
    are bugs, show theirs.
    """
    outcome = Outcome()
    try:
        yield outcome
    except CommandLineError as error:
        outcome.code = _report(str(error), 2)
    except KeyboardInterrupt:
        outcome.code = 130
    except SystemExit as stop:
        outcome.code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_gone():
            outcome.code = BROKEN_PIPE
            return
        message = user_message(error)
        if message is None:
            traceback.print_exc()
            outcome.code = 1
        else:
            outcome.code = _report(message, 1)


def user_message(error: BaseException) -> str | None:
    """The message of a `UserError`, of a library's error caused by one, or of one raised in a DataLoader worker.

    Lightning's own refusals of a configuration are user errors as well, and so is a full or read-only disk. None for
    any other exception.
    """
    # torch raises the worker's exception type, with the complete traceback as its message
    if worker := _WORKER.search(str(error)):
        return _worker_message(worker["trace"])
    if isinstance(error, UserError) or type(error).__name__ == "MisconfigurationException":
        return str(error)
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}); free space, or name another folder"
    if isinstance(error, sqlite3.OperationalError) and str(error) in _DATABASE:
        return f"a search's trials.db cannot be written ({error}); free space, or name another folder"
    # jsonargparse and Lightning wrap what a constructor raises
    return None if error.__cause__ is None else user_message(error.__cause__)


def _worker_message(trace: str) -> str | None:
    """The message of a worker's error, extracted from the printed traceback."""
    *_, last = re.finditer(r'  File "([^"]+)", line \d+.*?\n', trace)
    raised = re.search(r"^([A-Za-z_][\w.]*): (.*)", trace[last.end() :], re.DOTALL | re.MULTILINE)
    if raised is None:
        return None
    module, _, name = raised[1].rpartition(".")
    kind = getattr(import_module(module), name, None) if module in sys.modules else None
    return raised[2].strip() if isinstance(kind, type) and issubclass(kind, UserError) else None


def _report(message: str, code: int) -> int:
    if os.environ.get("GLARE_TRACEBACK"):
        traceback.print_exc()
    print(f"error: {printable(message, lines=True)}", file=sys.stderr)
    return code
