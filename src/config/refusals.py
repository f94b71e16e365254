"""Report a configuration value that a library refuses in one line, without a traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from src.core.errors import CommandLineError, user_message

# the first entry of jsonargparse's list of errors
_FIRST = re.compile(r"Errors:\n\s*- (.*?)(?:\n\s*- |\nGiven value|\Z)", re.DOTALL)


@contextmanager
def refused(key: str, containing: str = "") -> Iterator[None]:
    """Convert a library's refusal of a value within the block to a `CommandLineError`.

    Args:
        key: Key of the value, for the message.
        containing: Text that the error must contain; other errors are passed on.

    Raises:
        CommandLineError: In place of a TypeError, ValueError or OverflowError that is not a user error already.
    """
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        if user_message(error) is not None or containing not in text:
            raise
        first = _FIRST.search(text)
        reason = " ".join((first[1] if first else text).split())
        raise CommandLineError(f"{key}: a value cannot be used ({reason}); GLARE_TRACEBACK=1 shows where") from error
