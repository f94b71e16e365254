"""Profile the parts of a preset's pre-training step on this machine's CPU.

    python benchmarks/profile_step.py --preset calibrated --steps 12 --out profile.json

Two tables. The first divides a step of a real fit (generated scenes, loader processes, monitor) by clock at the
boundaries of its parts. The second groups kernels of further steps by kind with torch's profiler, which slows down
small kernels, so only its shares are meaningful.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.profiler import ProfilerActivity, profile

from datamodules.scenes import ScenesDataModule
from src.backbones.adapters import LoRA, UniAdapter
from src.backbones.backbone import Backbone
from src.core.bfloat16 import computes_bfloat16, processor_flags
from src.monitoring.monitor import Monitor
from src.pretraining import ContinualPretraining
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.targets import SinkhornKnopp, Uncentred

WARM, PROFILED = 2, 2  # steps before the clock starts, and those under the profiler
KINDS = {
    "attention": r"attention|flash",
    "matrix products": r"\b(mm|addmm|bmm|baddbmm|linear|matmul)|mkldnn",
    "copies and type changes": r"copy|\bto\b|contiguous|clone|cat\b",
    "normalisation, softmax, GELU": r"norm|softmax|gelu|logsumexp|exp",
    "optimiser": r"adam|foreach|lerp",
}


class Clock:
    """Seconds by part, of steps that count.

    Args:
        now: Seconds since some moment: of the wall, or of the processor.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts = False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this context to a part."""
        began = self.now()
        yield
        self.add(name, self.now() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add to a part, if the step counts."""
        if self.counts:
            self.seconds[name] += seconds

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is added to a part."""

        def timed(*inputs: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*inputs, **options)

        return timed


class Parts(Callback):
    """Puts the clock around the parts of a step, and the last steps under the profiler."""

    def __init__(self, steps: int, now: Callable[[], float]) -> None:
        self.clock = Clock(now)
        self.steps = steps
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self._began = self._ended = 0.0

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        clock = self.clock
        student, backward = module.student.forward, module.backward

        def forward(*inputs: Any, **options: Any) -> Any:
            with clock.part("student's backbone, forward"):
                result = student(*inputs, **options)
            if result.features.patches.requires_grad:
                result.features.patches.register_hook(self._reached)
            return result

        def timed_backward(*inputs: Any, **options: Any) -> None:
            self._began = self._border = self.clock.now()
            backward(*inputs, **options)
            clock.add("head and losses, backward", self._border - self._began)
            clock.add("student's backbone, backward", self.clock.now() - self._border)

        module.student.forward, module.backward = forward, timed_backward
        module.teacher.forward = clock.around("teacher's backbone", module.teacher.forward)
        module.patch_augmentation = clock.around("patch augmentation", module.patch_augmentation)
        module.teacher.update = clock.around("moving average", module.teacher.update)
        module.configure_gradient_clipping = clock.around("clipping", module.configure_gradient_clipping)
        for term in module.objectives.values():
            term.forward = clock.around("head and losses, forward", term.forward)
        step = trainer.optimizers[0].step

        def optimise(closure: Callable[[], Any], **options: Any) -> Any:
            inside = 0.0

            def timed() -> Any:
                nonlocal inside
                began = self.clock.now()
                value = closure()
                inside = self.clock.now() - began
                return value

            began = self.clock.now()
            value = step(closure=timed, **options)
            clock.add("optimiser", self.clock.now() - began - inside)
            return value

        trainer.optimizers[0].step = optimise  # type: ignore[method-assign]

    def _reached(self, gradient: torch.Tensor) -> None:
        self._border = self.clock.now()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        now = self.clock.now()
        if self._ended:
            self.clock.add("waiting for the loader, and between steps", now - self._ended)
        self._step = now
        if batch_idx == WARM + self.steps:
            self.profiler.start()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.clock.add("whole step", self.clock.now() - self._step)
        self._ended = self.clock.now()
        self.clock.counts = WARM - 1 <= batch_idx < WARM + self.steps - 1
        if batch_idx == WARM + self.steps + PROFILED - 1:
            self.profiler.stop()


def module_of(preset: str, model: str, weights: str, small: int) -> ContinualPretraining:
    """The model of a preset, past its warm-ups; sizes of the head divided by `small`."""
    torch.manual_seed(0)
    backbone, optimisation = Backbone(model, weights), Optimisation(lr=1e-3, lr_batch=None, head_warmup=0.0)
    if preset == "calibrated":
        lora = LoRA(16, 16.0, ("q", "k", "v", "proj", "fc1", "fc2"))
        head: Any = partial(CalibratedHead, prototypes=256 // small, hidden=1024 // small)
        return ContinualPretraining(
            backbone, lora, head, {"local": LocalConsistency(targets=Uncentred())}, optimisation=optimisation
        )
    terms = {
        "global": GlobalConsistency(centre_tokens=True, targets=SinkhornKnopp(temperature=0.03)),
        "regional": RegionalConsistency(targets=SinkhornKnopp()),
        "local": LocalConsistency(targets=SinkhornKnopp()),
    }
    head = partial(ProjectionHead, prototypes=1024 // small, hidden=1024 // small, initialisation="orthogonal")
    return ContinualPretraining(backbone, UniAdapter(), head, terms, optimisation=optimisation)


def kinds(profiler: profile) -> dict[str, float]:
    """Share of the processor's time by kind of kernel."""
    seconds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "other")
        seconds[kind] += event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: round(value / total, 3) for kind, value in sorted(seconds.items(), key=lambda item: -item[1])}


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("calibrated", "small"), default="calibrated")
    parser.add_argument("--steps", type=int, default=12, help="that the clock counts")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processor-time", action="store_true", help="of all threads, on a machine with other work")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", help="bf16-mixed where the processor has instructions for it, else 32-true")
    parser.add_argument("--out", type=Path, help="where the report goes as JSON")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script")
    options = parser.parse_args(arguments)
    precision = options.precision or ("bf16-mixed" if computes_bfloat16(processor_flags()) else "32-true")
    model, side, batch = ("test_vit", 64, 2) if options.toy else ("vit_small_patch14_dinov2", 168, options.batch)
    now = time.process_time if options.processor_time else time.perf_counter
    parts, monitor = (
        Parts(options.steps, now),
        Monitor(every_n_steps=10**6, images=4, labelled=3 if options.toy else 36),
    )
    data = ScenesDataModule(24, 2, task="pretrain", batch_size=batch, size=side, num_workers=options.workers)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=WARM + options.steps + PROFILED, accelerator="cpu", devices=1, precision=precision, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[parts, monitor], default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module_of(options.preset, model, options.weights, 16 if options.toy else 1), data)
    total = parts.clock.seconds.pop("whole step") / options.steps
    seconds = {name: value / options.steps for name, value in parts.clock.seconds.items()}
    seconds["the rest of a step"] = total - sum(value for name, value in seconds.items() if "waiting" not in name)
    report = {
        "preset": options.preset,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "seconds_a_step": round(total, 4),
        "parts": {name: round(value, 4) for name, value in sorted(seconds.items(), key=lambda item: -item[1])},
        "kernels": kinds(parts.profiler),
        "seconds_a_monitor_check": round(monitor._cost, 2),
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{total:.3f} s a step ({options.preset}, {precision}, {torch.get_num_threads()} threads)\n")
    print("| part | s | share |\n| --- | --- | --- |")
    for name, value in report["parts"].items():  # type: ignore[attr-defined]
        print(f"| {name} | {value:.3f} | {100 * value / total:.0f} % |")
    print("\n| kernels | share |\n| --- | --- |")
    for name, share in report["kernels"].items():  # type: ignore[attr-defined]
        print(f"| {name} | {100 * share:.0f} % |")
    print(f"\none check of the monitor: {monitor._cost:.1f} s, as often as 5 % of a run allows")


if __name__ == "__main__":
    main()
