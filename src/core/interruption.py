"""Treat a scheduler's signals before the end of a job as Ctrl-C, so that work is saved."""

from __future__ import annotations

import signal
import threading

# Kubernetes and SLURM end a job by SIGTERM and, after a grace period, by SIGKILL; `sbatch --signal=USR1@120` sends
# SIGUSR1 two minutes before the time limit.
NOTICES = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


def interrupt_on_notice() -> None:
    """Raise KeyboardInterrupt for these signals, except those that are ignored."""
    if threading.current_thread() is not threading.main_thread():  # the only thread that can handle signals
        return
    for notice in NOTICES:
        if signal.getsignal(notice) is signal.SIG_DFL:
            signal.signal(notice, signal.default_int_handler)
