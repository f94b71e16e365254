"""Stands for `src.studies.run.stage`: leaves what a stage leaves, in a moment, and notes that it ran.

A pre-training makes ten steps, each in a checkpoint of its own, and goes on from the last one.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from src.studies.run.outcome import write_outcome

signal.signal(signal.SIGINT, signal.default_int_handler)  # as the real one does


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.02)
    os._exit(1)


folder, stage, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
threading.Thread(target=end_with, args=(parent,), daemon=True).start()
pause = float(os.environ.get("QUICK_STAGE_PAUSE", "0"))
if os.environ.get("QUICK_STAGE_FAILS", "none") in (folder / "stage.yaml").read_text():
    print("first line\n\nthe reason why", file=sys.stderr)
    sys.exit(3)
if stage == "pretrain":
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(exist_ok=True)
    step = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    value = 3.0 - step / 10
    while step < 10:
        time.sleep(pause / 10)
        step, value = step + 1, value - 0.1
        checkpoint.with_suffix(".part").write_text(str(step))
        os.replace(checkpoint.with_suffix(".part"), checkpoint)
    header = b'{"__metadata__":{"step":"10"}}'
    (folder / "adapter.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"data")
    (folder / "metrics.csv").write_text("step,train/loss\n9,2.0\n")
else:
    time.sleep(pause)
    (folder / "evaluation.json").write_text(json.dumps({"miou": 0.5, "class_names": ["a"]}))
write_outcome(folder, 1.0, resumed=False)
with (folder / "completions").open("a") as stream:
    stream.write(f"{time.time()}\n")
