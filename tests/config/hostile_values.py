"""Values of configuration keys that would run code, each as a function of the file that it would write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MODEL = "model.init_args"
HEAD = f"{MODEL}.head"


def shell(marker: str) -> dict[str, Any]:
    return {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}}


def calls(path: str, /, **arguments: Any) -> Callable[[str], Any]:
    """A class_path with arguments in which MARKER stands for the file."""
    return lambda marker: {
        "class_path": path,
        "init_args": json.loads(json.dumps(arguments).replace("MARKER", marker)),
    }


def callback(hook: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda marker: [
        {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": hook(marker)}}
    ]


def named(path: str) -> Callable[[str], Any]:
    return lambda marker: {"class_path": path}


PRETRAINING: list[tuple[str, Callable[[str], Any]]] = [
    ("model", shell),
    ("data", shell),
    (HEAD, shell),
    (HEAD, lambda marker: "os.system"),
    (HEAD, calls("subprocess.run", args=["touch", "MARKER"])),
    (HEAD, calls("subprocess.Popen", args=["touch", "MARKER"])),
    (HEAD, calls("builtins.exec", source="open('MARKER', 'w')")),
    (HEAD, calls("builtins.eval", source="open('MARKER', 'w')")),
    (HEAD, calls("builtins.open", file="MARKER", mode="w")),
    (HEAD, calls("pathlib.Path.touch", self="MARKER")),
    (HEAD, calls("functools.partial", func="os.system")),
    (HEAD, calls("operator.methodcaller", name="touch")),
    (HEAD, calls("importlib.import_module", name="writes_a_module")),
    (HEAD, calls("runpy.run_path", path_name="MARKER")),
    (HEAD, calls("src.cli.os.system", command="touch MARKER")),
    (HEAD, calls("src.studies.run.execution.write_json", path="MARKER", content={})),
    (HEAD, calls("torch.save", obj=1, f="MARKER")),
    (HEAD, named("writes_a_module.run")),
    (HEAD, named("writes_a_module.Plain")),
    (HEAD, named("writes_a_package.inner.Plain")),
    (HEAD, named("writes_a_package.inner.Odd")),
    (HEAD, named("writes_a_package.nothing.Here")),
    (HEAD, named("writes_a_file.inner.run")),
    (HEAD, named("antigravity.webbrowser")),
    (f"{HEAD}.init_args.hidden", shell),
    (f"{MODEL}.backbone", shell),
    (f"{MODEL}.backbone.init_args.weights", shell),
    (f"{MODEL}.adapter", shell),
    (f"{MODEL}.adapter", lambda marker: "writes_a_module.Plain"),
    (f"{MODEL}.patch_augmentation", shell),
    (f"{MODEL}.optimisation", shell),
    (f"{MODEL}.objectives.local", shell),
    (f"{MODEL}.objectives.local.init_args.targets", shell),
    ("data.init_args.transforms", shell),
    ("data.dict_kwargs", lambda marker: {"extra": shell(marker)}),
    ("trainer.callbacks", lambda marker: [shell(marker)]),
    ("trainer.callbacks", lambda marker: ["writes_a_module.run"]),
    ("trainer.callbacks", callback(shell)),
    ("trainer.callbacks", callback(lambda marker: "os.abort")),
    ("trainer.callbacks", callback(calls("functools.partial", func="os.system"))),
    ("trainer.logger", shell),
    ("trainer.logger", lambda marker: [shell(marker)]),
    ("trainer.logger", lambda marker: {"class_path": "TensorBoard", "dict_kwargs": {"comment": shell(marker)}}),
    ("trainer.plugins", shell),
    ("trainer.plugins", lambda marker: [shell(marker)]),
    ("trainer.strategy", shell),
    ("trainer.strategy", lambda marker: "writes_a_module.run"),
    ("trainer.profiler", shell),
    ("trainer.accelerator", shell),
    ("checkpoint", shell),
    ("monitor.every_n_steps", shell),
    ("guards", shell),
    ("seed_everything", shell),
    ("weights_only", lambda marker: False),
    ("weights_only", lambda marker: "no"),
    ("ckpt_path", lambda marker: "last"),
]
SEGMENTATION: list[tuple[str, Callable[[str], Any]]] = [
    (f"{MODEL}.decoder", shell),
    (f"{MODEL}.decoder", lambda marker: "os.system"),
    (f"{MODEL}.decoder", calls("functools.partial", func="os.system")),
    (f"{MODEL}.decoder", calls("torch.nn.Linear", out_features=2)),
    (f"{MODEL}.adapter", shell),
    (f"{MODEL}.inference", shell),
    (f"{MODEL}.class_names", shell),
]
