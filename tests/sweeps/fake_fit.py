"""A fit as a sweep sees it: options in, rows in metrics.csv one after another, a checkpoint at the end and on Ctrl-C.

The loss at step n of `steps` is the distance of `lr` from 1e-3 in decades, plus 1/n.
"""

import json
import math
import signal
import sys
import time
from pathlib import Path

options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
folder = Path(options["trainer.default_root_dir"])
checkpoint = folder / "checkpoints" / "last.ckpt"
with (folder / "starts.jsonl").open("a") as starts:
    starts.write(json.dumps(options) + "\n")
if options.get("mode") == "crash":
    sys.exit("RuntimeError: out of memory")


def stop(*_: object) -> None:
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(str(step))
    sys.exit(130)


step = int(checkpoint.read_text()) if "ckpt_path" in options else 0
signal.signal(signal.SIGINT, stop)
if step == 0:
    (folder / "metrics.csv").write_text("step,loss\n")
for step in range(step + 1, int(options.get("steps", 2)) + 1):  # noqa: B020 (where it stopped)
    loss = math.nan if options.get("mode") == "nan" else abs(math.log10(float(options["lr"])) + 3) + 1 / step
    with (folder / "metrics.csv").open("a") as file:
        file.write(f"{step},{loss}\n")
    time.sleep(float(options.get("sleep", 0)))
checkpoint.parent.mkdir(exist_ok=True)
checkpoint.write_text(str(step))
