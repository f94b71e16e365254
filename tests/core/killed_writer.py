"""Runs a command in this process, which kills itself at one moment of writing a checkpoint.

python tests/core/killed_writer.py MOMENT NAME COUNT COMMAND …: at the COUNT-th time that MOMENT comes for a file called
NAME. Moments: `half-written`, while the content is written beside the target or copied over it; `written`, before the
content is flushed; `keep`, before the old file gets its second name; `replace`, before the new file takes its place;
`replaced`, after that. COMMAND is `fit …` or `save PATH STEP`, which saves a small checkpoint.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import torch

moment, name, left, command = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]


def reached(found: str, file: Any) -> bool:
    global left
    left -= moment == found and Path(file).name.endswith(name)
    return left == 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(original: Callable[..., Any], before: str, after: str = "", which: int = 0) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if reached(before, arguments[which]):
            die()
        result = original(*arguments, **options)
        if after and reached(after, arguments[which]):
            die()
        return result

    return call


def half_saved(content: Any, target: Any) -> None:
    if isinstance(target, io.BytesIO):  # as Lightning does by itself
        save(content, target)
        return
    name = getattr(target, "stream", target).name
    buffer = io.BytesIO()
    save(content, buffer)
    if reached("half-written", name):
        target.write(buffer.getvalue()[: buffer.tell() // 2])
        target.flush()
        die()
    target.write(buffer.getvalue())
    target.flush()
    if reached("written", name):
        die()


def half_copied(source: Any, target: Any, **options: Any) -> Any:
    if reached("half-written", target):
        content = Path(source).read_bytes()
        with open(target, "wb") as stream:
            stream.write(content[: len(content) // 2])
        die()
    return copyfile(source, target, **options)


save, copyfile = torch.save, shutil.copyfile
torch.save, shutil.copyfile = half_saved, half_copied
os.link = wrapped(os.link, "keep")
os.replace = wrapped(os.replace, "replace", "replaced", which=1)

if command[0] == "save":
    from src.core.checkpoint_files import save_checkpoint

    save_checkpoint({"step": int(command[2]), "weight": torch.full((1000,), float(command[2]))}, command[1])
else:
    from src.__main__ import main

    sys.exit(main(command))
