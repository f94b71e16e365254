"""Profile the steps of a preset's pre-training on this machine's CPU, on generated scenes.

    python benchmarks/profile_step.py --preset calibrated --out profile.json
    python benchmarks/profile_step.py --preset small --trainer.precision bf16-mixed

It runs the preset's own configuration past its warm-ups; keys of it may be added. Two tables: the first divides a step
by its parts, in processor time, which other work on the machine hardly affects (--wall: by the clock). Images are read
by the same process, so that reading is counted too. The second groups the kernels of a further step by kind with
torch's profiler, which slows down small kernels, so only its shares are meaningful.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from lightning.pytorch import Callback, Trainer
from torch.profiler import ProfilerActivity, profile

from src.callbacks.explanations import Explanations
from src.cli import CLI
from src.config.keys import as_parsed
from src.monitoring.feature_metrics import FeatureMetrics
from src.monitoring.monitor import Monitor
from src.pretraining.network import FrozenFeatures

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments/pretrain/scenes"
PRESETS = {"small": EXPERIMENTS / "glare.yaml", "calibrated": EXPERIMENTS / "glare-calibrated.yaml"}
WARM = 2  # steps before the clock starts; one more, the last, runs under the profiler
KINDS = {
    "attention": r"attention|flash",
    "matrix products": r"^(mm|addmm_?|bmm|baddbmm|linear|matmul)$|mkldnn",
    "copies and type changes": r"copy|contiguous|clone|^cat$",
    "normalisation": r"norm",
    "GELU, softmax and exponentials": r"softmax|gelu|logsumexp|^exp_?$",
    "sums, products and fills": r"^(add|mul|sub|div|sum|mean|fill|zero|neg)_?(_backward)?$",
    "optimiser and moving average": r"^_?(fused_adam|foreach)|lerp|addcmul|addcdiv",
    "Python between kernels": r"^Optimizer\.|evaluate_function|^_OnTokens|^_LogPartition|^_Agreement",
}
TOY = {
    "data.init_args.batch_size": 2,
    "data.init_args.size": 64,
    "data.init_args.train_images": 8,
    "data.init_args.val_images": 2,
    "monitor.images": 4,
    "monitor.labelled": 3,
    "model.init_args.backbone.init_args.name": "test_vit",
    "model.init_args.backbone.init_args.weights": "none",
    "model.init_args.head.init_args.prototypes": 16,
}


class Clock:
    """Seconds by part, of steps that count; a part inside another is taken off it.

    Args:
        now: Seconds since some moment: of the wall, or of the processor.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts = False
        self._inside = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this context to a part."""
        began = self.now()
        self._inside.append(0.0)
        yield
        spent = self.now() - began
        self.add(name, spent - self._inside.pop())
        self._inside[-1] += spent

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
    """Puts the clock around the parts of a step, and the last step under the profiler."""

    def __init__(self, steps: int, now: Callable[[], float]) -> None:
        self.clock = Clock(now)
        self.steps = steps
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self._ended = 0.0

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        clock = self.clock
        student, backward, networks = module.student.forward, module.backward, (module.student, module.teacher.network)

        def forward(*inputs: Any, **options: Any) -> Any:
            with clock.part("student's backbone, forward"):
                result = student(*inputs, **options)
            if result.features.patches.requires_grad:
                result.features.patches.register_hook(self._reached)
            return result

        def timed_backward(*inputs: Any, **options: Any) -> None:
            self._border = began = clock.now()
            before = clock.seconds["head, backward"]
            backward(*inputs, **options)
            clock.add("losses, backward", self._border - began - clock.seconds["head, backward"] + before)
            clock.add("student's backbone, backward", clock.now() - self._border)

        module.student.forward, module.backward = forward, timed_backward
        module.teacher.forward = clock.around("teacher's or frozen backbone", module.teacher.forward)
        FrozenFeatures.augmented = clock.around(  # type: ignore[method-assign]
            "teacher's or frozen backbone", FrozenFeatures.augmented
        )
        for network in networks:
            network.head.code = clock.around("head, forward", network.head.code)
        mlp = getattr(module.student.head, "mlp", None)
        if mlp is not None and any(parameter.requires_grad for parameter in mlp.parameters()):
            mlp.register_full_backward_pre_hook(self._head_began)
            mlp.register_full_backward_hook(self._head_ended)
        module.patch_augmentation = clock.around("patch augmentation", module.patch_augmentation)
        module.teacher.update = clock.around("moving average", module.teacher.update)
        module.configure_gradient_clipping = clock.around("clipping", module.configure_gradient_clipping)
        for term in module.objectives.values():
            term.forward = clock.around("losses, forward", term.forward)
        step = trainer.optimizers[0].step

        def optimise(closure: Callable[[], Any], **options: Any) -> Any:
            inside = 0.0

            def timed() -> Any:
                nonlocal inside
                began = clock.now()
                value = closure()
                inside = clock.now() - began
                return value

            began = clock.now()
            value = step(closure=timed, **options)
            clock.add("optimiser", clock.now() - began - inside)
            return value

        trainer.optimizers[0].step = optimise  # type: ignore[method-assign]

    def _reached(self, gradient: torch.Tensor) -> None:
        self._border = self.clock.now()

    def _head_began(self, *_: Any) -> None:
        self._head = self.clock.now()

    def _head_ended(self, *_: Any) -> None:
        self.clock.add("head, backward", self.clock.now() - self._head)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        now, step = self.clock.now(), trainer.global_step
        if self._ended:
            self.clock.add("reading, crops and colours", now - self._ended)
        self._step = now
        if step == WARM + self.steps:
            self.profiler.start()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.global_step
        self._ended = self.clock.now()
        self.clock.add("whole step", self._ended - self._step)
        self.clock.counts = WARM <= done < WARM + self.steps
        if done == WARM + self.steps + 1:
            self.profiler.stop()


class ProfiledFit(CLI):
    """`fit` with the parts' callback before all others."""

    def __init__(self, arguments: list[str], parts: Parts) -> None:
        self.parts = parts
        super().__init__(as_parsed(["fit", *arguments]))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        return super()._instantiate_trainer(config, [self.parts, *callbacks])


def kinds(profiler: profile) -> dict[str, float]:
    """Share of the processor's time by kind of kernel."""
    seconds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "other")
        seconds[kind] += event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: round(value / total, 3) for kind, value in sorted(seconds.items(), key=lambda item: -item[1])}


def slowest(profiler: profile, count: int = 15) -> dict[str, float]:
    """Share of the processor's time of the slowest kernels."""
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:count]}


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="calibrated")
    parser.add_argument("--steps", type=int, default=6, help="that the clock counts")
    parser.add_argument("--wall", action="store_true", help="by the clock, not by the processor time of all threads")
    parser.add_argument("--out", type=Path, help="where the report goes as JSON")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script")
    options, keys = parser.parse_known_args(arguments)
    parts = Parts(options.steps, time.perf_counter if options.wall else time.process_time)
    costs: dict[str, float] = defaultdict(float)
    monitored = Clock(parts.clock.now)
    monitored.counts, monitored.seconds = True, costs
    FeatureMetrics.__init__ = monitored.around("start", FeatureMetrics.__init__)  # type: ignore[method-assign]
    Monitor._check = monitored.around("check", Monitor._check)  # type: ignore[method-assign]
    Explanations.on_fit_end = lambda *_: None  # type: ignore[method-assign]  # not a part of a step
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "trainer.max_steps": WARM + options.steps + 1,
            "trainer.accelerator": "cpu",
            "trainer.default_root_dir": folder,
            "trainer.enable_progress_bar": "false",
            "trainer.enable_model_summary": "false",
            "data.init_args.train_images": 40,  # made in seconds; the monitor needs 36
            "data.init_args.num_workers": 0,
            "model.init_args.optimisation.head_warmup": 0.0,
            "monitor.every_n_steps": 10**6,  # once before the first step, once after the last
            **(TOY if options.toy else {}),
            **({"model.init_args.head.init_args.hidden": 16} if options.toy and options.preset == "small" else {}),
        }
        flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        trainer = ProfiledFit(["--config", str(PRESETS[options.preset]), *flags, *keys], parts).trainer
    total = parts.clock.seconds.pop("whole step") / options.steps
    seconds = {name: value / options.steps for name, value in parts.clock.seconds.items()}
    reading = seconds["reading, crops and colours"]
    seconds["the rest of a step"] = total + reading - sum(seconds.values())
    report = {
        "preset": options.preset,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "clock": "wall" if options.wall else "processor",
        "seconds_a_step": round(total + reading, 4),
        "parts": {name: round(value, 4) for name, value in sorted(seconds.items(), key=lambda item: -item[1])},
        "kernels": kinds(parts.profiler),
        "slowest_kernels": slowest(parts.profiler),
        "seconds_at_the_monitor_start": round(costs["start"], 2),
        "seconds_a_monitor_check": round(costs["check"], 2),
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    unit = f"{report['clock']} s"
    print(
        f"\n{total + reading:.3f} {unit} a step ({options.preset}, {trainer.precision}, {report['threads']} threads)\n"
    )
    print(f"| part | {unit} | share |\n| --- | --- | --- |")
    for name, value in report["parts"].items():  # type: ignore[attr-defined]
        print(f"| {name} | {value:.3f} | {100 * value / (total + reading):.1f} % |")
    for heading, key in (("kernels", "kernels"), ("slowest kernels", "slowest_kernels")):
        print(f"\n| {heading} | share |\n| --- | --- |")
        for name, share in report[key].items():  # type: ignore[attr-defined]
            print(f"| {name} | {100 * share:.1f} % |")
    print(
        f"\nthe monitor: {costs['start']:.1f} {unit} at the start, {costs['check']:.1f} {unit} a check, as often as "
        "5 % of a run allows"
    )


if __name__ == "__main__":
    main()
