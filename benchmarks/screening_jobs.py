"""Jobs of benchmarks/screening.py, one adaptation with its probes each, and their processes."""

from __future__ import annotations

import logging
import math
import queue
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from lightning.pytorch import Trainer, seed_everything
from screening_domains import DOMAINS, Arrays, Unlabelled, probes_of
from screening_settings import BASE, SETTINGS, model, steps_of
from torch import multiprocessing

from datamodules.transforms.multi_crop import GLOBAL_AREA
from src.backbones import Backbone
from src.commands.adapt.images import HELD_OUT
from src.commands.adapt.settings import crops_scale
from src.core.bfloat16 import computes_bfloat16, processor_flags
from src.core.cores import usable_cores
from src.evaluation.dense_structure import dense_structure
from src.evaluation.paired_interval import paired_interval
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.pretraining import ContinualPretraining
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.target_summary import prototypes_used
from src.probes.cross_validation import CrossValidatedProbes
from src.probes.fair_comparison import FairProbes, Row, compare
from src.studies.run.machine import commit

Probes = FairProbes | CrossValidatedProbes


def bfloat16(device: str) -> bool:
    """Return True if the device multiplies bfloat16 matrices."""
    return device == "cuda" or computes_bfloat16(processor_flags())


@torch.no_grad()
def row(probes: Probes, backbone: Backbone, device: str, averaged: bool = False) -> Row:
    """Probe the backbone as it is, plainly or averaged over six views."""

    def maps(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16(device)):
            return backbone.feature_maps(images)[-1].float()

    return probes.measure(TestTimeAveraging(maps, backbone.patch_size) if averaged else maps, device)


@torch.no_grad()
def tokens_of(probes: Probes, backbone: Backbone, device: str) -> torch.Tensor:
    """Patch tokens `[images, patches, D]` of the held-back images, at most as many as `adapt` holds back."""
    labelled = probes.evaluation if isinstance(probes, FairProbes) else probes.images
    return torch.cat([backbone(one.image[None].to(device)).patches.float().cpu() for one in labelled[:HELD_OUT]])


@torch.no_grad()
def usage_of(module: ContinualPretraining, *tokens: torch.Tensor) -> list[float] | None:
    """Effective number of prototypes that each of the given tokens use under the trained head.

    None for heads other than the calibrated one. A collapse shows as about 1; guards stop such a run (`Guards`).
    """
    head, temperature = module.teacher.network.head.cpu(), module.optimisation.teacher_temperature[-1]
    if not isinstance(head, CalibratedHead):
        return None
    return [round(float(prototypes_used((head(one) / temperature).softmax(dim=-1))), 2) for one in tokens]


class Trained(NamedTuple):
    """A trained module, which settings share that differ in the strength only."""

    job: tuple[Any, ...]
    module: ContinualPretraining
    steps: int
    seconds: float


def job_of(stage: str, name: str, setting: dict[str, Any], seed: int) -> tuple[Any, ...]:
    """What a training depends on."""
    return stage, name, seed, {key: value for key, value in setting.items() if key != "strength"}


class Worker:
    """Runs jobs in one process; keeps what jobs share."""

    def __init__(self, data: Path, weights: str, device: str, quick: bool) -> None:
        self.data, self.weights, self.device, self.quick = data, weights, device, quick
        self._probes: dict[tuple[str, str], tuple[Arrays, Probes]] = {}
        self._frozen: dict[tuple[str, str], tuple[Row, Row]] = {}
        self._trained: Trained | None = None

    def backbone(self) -> Backbone:
        name = "test_vit" if self.weights == "none" else "vit_small_patch14_dinov2"
        return Backbone(name, self.weights).to(self.device)

    def run(self, stage: str, name: str, label: str, seed: int) -> dict[str, Any]:
        """One adaptation and its probes; only the change against frozen is kept."""
        setting = BASE | SETTINGS[label]
        key = (stage, name)
        if key not in self._probes:
            self._probes[key] = probes_of(self.data, name, stage)
        source, probes = self._probes[key]
        if key not in self._frozen:
            backbone = self.backbone().eval()
            averaged = row(probes, backbone, self.device, averaged=True)
            self._frozen[key] = (row(probes, backbone, self.device), averaged)
        frozen, averaged = self._frozen[key]
        if self._trained is None or self._trained.job != job_of(stage, name, setting, seed):
            self._trained = self.train(stage, name, setting, seed, source)
        module, steps, seconds = self._trained.module, self._trained.steps, self._trained.seconds
        adapted = module.teacher.network.backbone.to(self.device).eval()
        tokens = tokens_of(probes, self.backbone().eval(), self.device)
        used = usage_of(module, tokens, tokens_of(probes, adapted, self.device))
        with adapted.at_strength(setting["strength"]):
            measured = row(probes, adapted, self.device)
            before, after = dense_structure(tokens), dense_structure(tokens_of(probes, adapted, self.device))
        changes, verdict = compare(frozen, [measured], averaged)
        result: dict[str, Any] = {
            "stage": stage, "domain": name, "setting": label, "seed": seed, "commit": commit(),
            "steps": steps, "seconds": round(seconds, 1),
            "frozen": frozen.values(), "adapted": measured.values(), "verdict": verdict.word,
            "averaged": averaged.values(),
            "change": {k: [round(v.difference, 3), round(v.low, 3), round(v.high, 3)] for k, v in changes.items()},
            "structure": [round(before.value, 4), round(after.value, 4)],
            "structure change": round(paired_interval([before.statistic()], [after.statistic()]).difference, 4),
            "prototypes used": used,
        }  # fmt: skip
        return result

    def train(self, stage: str, name: str, setting: dict[str, Any], seed: int, source: Arrays) -> Trained:
        """Adapt to the images of a source."""
        seed_everything(seed)
        steps = 2 if self.quick else steps_of(setting.get("length", 1.0), stage)
        module = model(setting, self.backbone(), seed)
        size = setting.get("size", 168) if not self.quick else 112
        own_views = setting["method"] != "calibrated" or setting.get("views") == "udi"
        scale = GLOBAL_AREA if own_views else crops_scale(size, math.sqrt(math.prod(DOMAINS[name][1])))
        data = Unlabelled(
            source,
            batch_size=min(setting.get("batch", 8), len(source)),
            size=size,
            num_workers=1,
            seed=seed,
            global_crops_scale=scale,
            colours=setting.get("colours", "loader"),
        )
        start = time.perf_counter()
        trainer = Trainer(
            accelerator="gpu" if self.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if bfloat16(self.device) else "32-true",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
        return Trained(job_of(stage, name, setting, seed), module, steps, time.perf_counter() - start)


def work(jobs: Any, results: Any, arguments: tuple[Any, ...], threads: int) -> None:
    """Main function of a process: run jobs until none are left."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    cv2.setNumThreads(0)
    worker = Worker(*arguments)
    while True:
        job = jobs.get()
        if job is None:
            results.put(None)
            return
        try:
            results.put(worker.run(*job))
        except Exception:
            results.put({"failed": job, "error": traceback.format_exc()[-1500:]})


def pool(
    jobs: list[tuple[Any, ...]],
    arguments: tuple[Any, ...],
    processes: dict[str, int],
    seconds: float,
    into: list[Any],
    save: Callable[[], None],
) -> None:
    """Run jobs in several processes a domain, which share its frozen rows, until they are done or time is up.

    Args:
        jobs: Arguments of `Worker.run`.
        arguments: Arguments of `Worker`.
        processes: Number of them, by domain.
        seconds: Time for all jobs.
        into: Results are added here.
        save: Called after each result.
    """
    context = multiprocessing.get_context("spawn")
    done, workers, queues = context.Queue(), [], []
    threads = max(1, usable_cores() // sum(processes.values()))
    for name, count in processes.items():
        todo = context.Queue()
        queues.append(todo)  # a queue that is dropped takes its lock along before a process has opened it
        for job in [*(job for job in jobs if job[1] == name), *[None] * count]:
            todo.put(job)
        workers += [context.Process(target=work, args=(todo, done, arguments, threads)) for _ in range(count)]
    for worker in workers:
        worker.start()
    end, running = time.monotonic() + seconds, len(workers)
    while running and time.monotonic() < end:
        try:
            result = done.get(timeout=max(0.1, end - time.monotonic()))
        except queue.Empty:
            break
        if result is None:
            running -= 1
            continue
        into.append(result)
        save()
        if "error" in result:
            print("FAILED", result["failed"], result["error"], flush=True)
            continue
        change = result["change"]
        gains = f"{change['miou'][0]:+.2f} {change['whitened_knn'][0]:+.2f} {change['cross_entropy'][0]:+.1f} %"
        used = result["prototypes used"]
        print(result["stage"], result["domain"], result["setting"], gains, used, result["seconds"], flush=True)
    for worker in workers:
        worker.kill()
