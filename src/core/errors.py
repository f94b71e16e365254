"""What a user sees when something fails: one message and an exit code, and a traceback only for our own mistakes."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_OURS = (str(_ROOT / "src") + os.sep, str(_ROOT / "datamodules") + os.sep)
_USERS = (ValueError, FileNotFoundError)
# what torch writes around an exception that a DataLoader worker raised
_WORKER = re.compile(r"Caught \w+ in .*?worker process.*?Original Traceback.*?(?P<trace>  File .*)", re.DOTALL)


class CommandLineError(Exception):
    """The command line or a configuration file is wrong: exit code 2."""


@dataclass
class Outcome:
    """How a command ended: 0 done, 1 failed, 2 wrong command line, 130 interrupted."""

    code: int = 0


@contextmanager
def one_message() -> Iterator[Outcome]:
    """Turns what a command raises into one message on stderr and an exit code.

    ``GLARE_TRACEBACK=1`` in the environment shows the traceback of every failure; without it only unexpected ones
    (our mistakes, not the user's) have one.
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
        message = user_message(error)
        if message is None:
            traceback.print_exc()
            outcome.code = 1
        else:
            outcome.code = _report(message, 1)


def user_message(error: BaseException) -> str | None:
    """The message of an error that the user can act on, or None if it is an unexpected one.

    A ValueError or FileNotFoundError is the user's if its class, or the line that raised it, is ours: then it was
    written to be read. Those that a DataLoader worker raised count as well, those that another library answered
    with an error of its own, and all of Lightning's refusals.
    """
    worker = _WORKER.search(str(error))
    if worker:
        return _worker_message(worker["trace"])
    if type(error).__name__ == "MisconfigurationException":
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own_class = type(error).__module__.partition(".")[0] in ("src", "datamodules")  # ours, whoever raised it again
    raised_here = bool(frames) and _is_ours(frames[-1].filename)
    if isinstance(error, _USERS) and (own_class or raised_here):
        return str(error)
    if raised_here or error.__cause__ is None:
        return None
    return user_message(error.__cause__)  # jsonargparse puts one around what a link from data to model raises


def _worker_message(trace: str) -> str | None:
    """The same of a worker's error, of which only the printed traceback is left."""
    *_, last = re.finditer(r'  File "([^"]+)", line \d+.*?\n', trace)
    raised = re.search(r"^([A-Za-z_][\w.]*): (.*)", trace[last.end() :], re.DOTALL | re.MULTILINE)
    if raised is None or not _is_ours(last[1]):
        return None
    module, _, name = raised[1].rpartition(".")
    kind = getattr(import_module(module or "builtins"), name, None)
    return raised[2].strip() if isinstance(kind, type) and issubclass(kind, _USERS) else None


def _is_ours(file: str) -> bool:
    return os.path.realpath(file).startswith(_OURS)


def _report(message: str, code: int) -> int:
    if os.environ.get("GLARE_TRACEBACK"):
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code
