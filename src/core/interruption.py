"""Signals by which a scheduler announces the end of a job, taken for Ctrl-C: whatever that saves, they save."""

from __future__ import annotations

import signal
import threading

# Kubernetes and SLURM end a job by SIGTERM and, after a grace period, by SIGKILL; `sbatch --signal=USR1@120` sends
# SIGUSR1 two minutes before the time limit.
NOTICES = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


def interrupt_on_notice() -> None:
    """Let the process end by KeyboardInterrupt where a notice would have ended it at once; one ignored stays so."""
    if threading.current_thread() is not threading.main_thread():  # the only thread that can handle signals
        return
    for notice in NOTICES:
        if signal.getsignal(notice) is signal.SIG_DFL:
            signal.signal(notice, signal.default_int_handler)
