"""Speed and memory of a pre-training step on this machine's device, as one JSON file.

    bash benchmarks/gpu.sh report.json [--budget-seconds 480] [--batch 64 128 256] [--workers 16] [--toy]

Per case (ViT-S/16 and ViT-B/16, random weights, two views of 224 px, default head, bf16-mixed): milliseconds a step,
images a second, peak memory, and the utilisation of the measured bf16 matrix rate. The data are batches on the device;
the loader is measured separately. The cases run in order of importance, and those beyond the time budget are listed as
skipped. On CUDA the steps after the timed ones run under `torch.cuda.set_sync_debug_mode`, and synchronisations are
listed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
import warnings
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from datamodules.views import Crops, Views
from src.backbones.adapters import Full, UniAdapter
from src.backbones.backbone import Backbone
from src.pretraining import ContinualPretraining
from src.pretraining.acceleration import Acceleration
from src.pretraining.consistency import GlobalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.projection_head import ProjectionHead

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
WARM, TIMED, WATCHED = 5, 20, 2  # steps
SECONDS = {False: 20, True: 90}  # limit per case, without and with compilation


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        model: A timm model name.
        batch: Images a step.
        trains: `adapters` (UniAdapter) or `everything`.
        compiled: True if the blocks are compiled.
        head: `default` (2048-2048-256, K 8192) or `small` (1024-1024-256, K 1024).
        terms: `all` three or `global` alone.
    """

    model: str
    batch: int
    trains: str = "adapters"
    compiled: bool = False
    head: str = "default"
    terms: str = "all"


@dataclass(frozen=True)
class Scale:
    """Sizes that the toy scale shrinks."""

    models: tuple[str, ...] = ("vit_small_patch16_224", "vit_base_patch16_224")
    side: int = 224
    matrix: int = 8192
    photographs: int = 1024
    heads: tuple[tuple[int, int], ...] = ((2048, 8192), (1024, 1024))  # hidden width and K: default, small

    def cases(self, batches: list[int]) -> list[Case]:
        """In order of importance."""
        first, *larger = batches
        rows = [Case(model, first, trains) for trains in ("adapters", "everything") for model in self.models]
        rows.append(Case(self.models[0], first, terms="global"))
        rows += [Case(self.models[0], first, trains, head="small") for trains in ("adapters", "everything")]
        rows += [Case(model, batch) for batch in larger for model in self.models]
        return rows + [Case(model, first, compiled=True) for model in self.models]


TOY = Scale(("test_vit",), side=32, matrix=64, photographs=8, heads=((16, 32), (8, 16)))


class Clock(Callback):
    """Time the steps after warm-up, then record synchronisations in further ones."""

    def __init__(self) -> None:
        self.milliseconds, self.gib, self.waits = 0.0, 0.0, set[str]()
        self._began = 0.0
        self._watching = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM:
            if CUDA:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            self._began = time.perf_counter()
        elif batch_idx == WARM + TIMED:
            if CUDA:
                torch.cuda.synchronize()
            self.milliseconds = 1e3 * (time.perf_counter() - self._began) / TIMED
            self.gib = (torch.cuda.max_memory_allocated() if CUDA else process_peak()) / 2**30
            self._caught = self._watching.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            if CUDA:
                torch.cuda.set_sync_debug_mode("warn")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if CUDA:
            torch.cuda.set_sync_debug_mode("default")
        told = [warning for warning in self._caught if "synchronizing" in str(warning.message)]
        self.waits = {f"{Path(warning.filename).name}:{warning.lineno}" for warning in told}
        self._watching.close()


def process_peak() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def matrix_rate(side: int) -> float:
    """FLOP/s of a bf16 product of two random square matrices."""
    one, other = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(13):
        if CUDA:
            torch.cuda.synchronize()
        began = time.perf_counter()
        one @ other
        if CUDA:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / float(np.median(seconds[3:]))


def crops(batch: int, side: int) -> Crops:
    """Two views of random images, on the device."""
    images = torch.randint(0, 256, (2, batch, 3, side, side), device=DEVICE, dtype=torch.uint8)
    corners = torch.rand(2, batch, 2, device=DEVICE) * 0.4
    views = Views(images, torch.cat((corners, corners + 0.6), dim=-1), torch.rand(2, batch, device=DEVICE) < 0.5)
    return Crops(views, None, torch.arange(batch, device=DEVICE), torch.zeros(batch, device=DEVICE, dtype=torch.int64))


def module_of(case: Case, scale: Scale) -> ContinualPretraining:
    """The model of a case, past every warm-up."""
    hidden, prototypes = scale.heads[case.head == "small"]
    return ContinualPretraining(
        Backbone(case.model, "none"),
        UniAdapter() if case.trains == "adapters" else Full(),
        partial(ProjectionHead, hidden=hidden, prototypes=prototypes),
        {"global": GlobalConsistency()} if case.terms == "global" else None,
        optimisation=Optimisation(head_warmup=0.0, freeze_last_layer=0),
        acceleration=Acceleration(compile=case.compiled),
    )


def fit(case: Case, scale: Scale, steps: int, callback: Callback | None = None) -> None:
    """Train on one batch over and over, on the device."""
    trainer = Trainer(
        max_steps=steps, accelerator=DEVICE.type, devices=1, precision="bf16-mixed", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=callback, log_every_n_steps=steps + 1,
    )  # fmt: skip
    batches: DataLoader[Any] = DataLoader([crops(case.batch, scale.side)] * steps, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module_of(case, scale), batches)


def products(case: Case, scale: Scale) -> float:
    """FLOPs of the matrix products of a step, counted on two images, not compiled."""
    with FlopCounterMode(display=False) as counter:
        fit(Case(case.model, 2, case.trains, False, case.head, case.terms), scale, 1)
    return counter.get_total_flops() * case.batch / 2


def measure(case: Case, scale: Scale, rate: float) -> dict[str, Any]:
    """One row of the report."""
    clock = Clock()
    try:
        fit(case, scale, WARM + TIMED + WATCHED, clock)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {**asdict(case), "failed": "out of memory"}
    flops = products(case, scale)
    return {
        **asdict(case),
        "ms_per_step": round(clock.milliseconds, 2),
        "images_per_second": round(1e3 * case.batch / clock.milliseconds, 1),
        "peak_memory_gib": round(clock.gib, 2),
        "tflop_per_step": round(flops / 1e12, 4),
        "share_of_matrix_rate": round(flops / (clock.milliseconds / 1e3) / rate, 4),
        "waits_for_the_device": sorted(clock.waits),
    }


def loader_rate(scale: Scale, batch: int, num_workers: int) -> dict[str, Any]:
    """Images a second that a loader makes of JPEGs of 640×480 px, over three epochs after one to warm up."""
    try:
        from datamodules.folder import FolderDataModule
    except ImportError as missing:  # albumentations, which a bare GPU machine may lack
        return {"skipped": f"{missing.name} is not installed"}
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(scale.photographs):
            small = Image.fromarray(generator.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).save(Path(folder) / f"{index:04}.jpg", quality=90)
        data = FolderDataModule(
            Path(folder),
            task="pretrain",
            batch_size=min(batch, scale.photographs),
            size=scale.side,
            num_workers=num_workers,
        )
        data.setup("fit")
        loader, images = data.train_dataloader(), 0
        for epoch in range(4):
            if epoch == 1:
                began = time.perf_counter()
            for part in loader:
                images += len(part.indices) if epoch else 0
        seconds = time.perf_counter() - began
    return {"num_workers": num_workers, "images_per_second": round(images / seconds, 1)}


def report(scale: Scale, batches: list[int], num_workers: int, budget: float) -> dict[str, Any]:
    """Run all cases within the time budget."""
    began = time.perf_counter()
    rate = matrix_rate(scale.matrix)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    loader: dict[str, Any] | None = None
    for case in scale.cases(batches):
        left = budget - (time.perf_counter() - began)
        if left < SECONDS[case.compiled]:
            skipped.append(asdict(case))
            continue
        rows.append(measure(case, scale, rate))
        print(json.dumps(rows[-1]), flush=True)
        if loader is None and len(rows) == len(scale.models):
            loader = loader_rate(scale, batches[0], num_workers)
            print(json.dumps({"loader": loader}), flush=True)
    fastest = max((row.get("images_per_second", 0.0) for row in rows), default=0.0)
    if loader is not None and loader.get("images_per_second"):
        loader["keeps_up_with_fastest"] = loader["images_per_second"] >= fastest
    return {
        "device": torch.cuda.get_device_name() if CUDA else "cpu",
        "torch": torch.__version__,
        "bf16_matrix_tflop_per_second": round(rate / 1e12, 3),
        "cases": rows,
        "loader": loader,
        "skipped_for_want_of_time": skipped,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="where the JSON goes")
    parser.add_argument("--budget-seconds", type=float, default=480)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script on a CPU")
    options = parser.parse_args(arguments)
    if options.path.is_dir() or not options.path.absolute().parent.is_dir():
        parser.error(f"{options.path}: expected the path of a file in a folder that exists")
    content = report(TOY if options.toy else Scale(), options.batch, options.workers, options.budget_seconds)
    options.path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
