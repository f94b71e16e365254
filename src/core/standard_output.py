"""Handle a standard output whose reader closes early, as ``head`` does."""

from __future__ import annotations

import os
import select
import sys


def flush() -> None:
    """Flush the buffer; drop it if the reader is gone.

    Python would do it at exit, with a traceback that cannot be caught.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()


def reader_gone() -> bool:
    """Return True if the reader of the standard output is gone; further output is then dropped."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, ValueError):  # no stream, or one without a file, as in a notebook
        return False
    states = select.poll()
    states.register(descriptor, select.POLLOUT)
    gone = any(state & (select.POLLERR | select.POLLHUP) for _, state in states.poll(0))
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return gone
