"""Stands for `src.studies.run.stage`: leaves what a stage leaves, in a moment, and notes that it ran.

A stage makes ten steps, each in a checkpoint of its own, and resumes from the last one; `steps` counts them.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from src.core.json_files import write_json
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
checkpoint = folder / "checkpoints" / "last.ckpt"
checkpoint.parent.mkdir(exist_ok=True)
first = step = int(checkpoint.read_text()) if checkpoint.is_file() else 0
began = time.time()
write_json(folder / "progress.json", {"done": step, "total": 10, "first": first, "began": began, "at": began})
while step < 10:
    time.sleep(pause / 10)
    step += 1
    with (folder / "steps").open("a") as stream:
        stream.write(f"{step}\n")
    checkpoint.with_suffix(".part").write_text(str(step))
    os.replace(checkpoint.with_suffix(".part"), checkpoint)
if stage == "pretrain":
    header = b'{"__metadata__":{"step":"10"}}'
    (folder / "adapter.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"data")
    (folder / "metrics.csv").write_text("step,train/loss\n9,2.0\n")
else:
    (folder / "evaluation.json").write_text(json.dumps({"miou": 0.5, "class_names": ["a"]}))
write_outcome(folder, 1.0, resumed=False)
with (folder / "completions").open("a") as stream:
    stream.write(f"{time.time()}\n")
