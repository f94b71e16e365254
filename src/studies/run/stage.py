"""One cell in a process of its own: `python -m src.studies.run.stage FOLDER STAGE PARENT`.

With several devices, Lightning starts this command once more for each further one; these compute and write nothing.

The same as `python -m src fit --config FOLDER/stage.yaml` and, for an evaluation, `test` on what was just trained: in
one process, because each costs seconds of imports and of reading weights.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from src.callbacks.launcher import failing_together
from src.cli import main as run
from src.core.checkpoint_files import damage
from src.core.checkpoint_paths import checkpoint_exists, previous_of
from src.core.errors import one_message
from src.core.import_path import add_current_folder
from src.core.interruption import interrupt_on_notice
from src.segmentation.evaluation_loop import ScoredSegmentation
from src.studies.run.outcome import write_outcome
from src.studies.run.sampling import write_samples


def main(arguments: Sequence[str]) -> int:
    """Run the stage; the exit code is that of the command."""
    began = time.time()
    add_current_folder()
    folder, stage, parent = Path(arguments[0]), arguments[1], int(arguments[2])
    if os.environ.get("LOCAL_RANK", "0") != "0":
        parent = os.getppid()  # the process of rank 0
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    with one_message() as outcome:
        checkpoint = folder / "checkpoints" / "last.ckpt"
        resumed = resumable(checkpoint)
        resume = ["--ckpt_path", str(checkpoint)] if resumed else []
        command = run(["fit", "--config", str(folder / "stage.yaml"), *resume])
        if stage == "evaluate":
            with failing_together(command.trainer):
                command.trainer.test(command.model, datamodule=command.datamodule, verbose=False)
        if not command.trainer.is_global_zero:
            return outcome.code
        if stage == "evaluate" and isinstance(command.model, ScoredSegmentation):
            write_samples(folder / "samples.npz", command.model, command.datamodule)
        write_outcome(folder, time.time() - began, resumed)
    return outcome.code


def resumable(checkpoint: Path) -> bool:
    """Return True if the stage can resume from a checkpoint; damaged ones are named and ignored."""
    if not checkpoint_exists(checkpoint):
        return False
    faults = {path: damage(path) for path in (checkpoint, previous_of(checkpoint))}
    if all(faults.values()):
        said = "; ".join(f"{path} {fault}" for path, fault in faults.items())
        print(f"warning: {said}; the stage starts from step 0", file=sys.stderr, flush=True)
    return not all(faults.values())


def end_with(parent: int) -> None:
    """Exit when the parent process is gone, since nobody would collect the result or free the lock."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


if __name__ == "__main__":
    # a study that was started in the background of a script ignores Ctrl-C, and so would what it starts: but the runner
    # asks its stages to stop by that signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt_on_notice()
    sys.exit(main(sys.argv[1:]))
