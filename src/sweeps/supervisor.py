"""Run a trial's command, and end it with the sweep: `python -m src.sweeps.supervisor PARENT COMMAND…`.

Otherwise a trial would outlive a killed sweep, and the next sweep would start it again in the same folder.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PATIENCE = 60.0  # seconds for a stopped trial to write its checkpoint
POLL = 0.2  # seconds between two checks


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code is its own."""
    parent, words = int(arguments[0]), list(arguments[1:])
    # Ctrl-C goes to the whole group: the command ends by it, and this process with the command
    process = subprocess.Popen(words)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while process.poll() is None and os.getppid() == parent:
        time.sleep(POLL)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
