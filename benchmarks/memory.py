"""Count the peak GPU memory of a training step of a configuration, without a GPU and without its data.

    python benchmarks/memory.py experiments/pretrain/ade20k/glare.yaml experiments/segment/ade20k/upernet.yaml

The step is computed on tensors without contents: shapes, types and lifetimes are those of the real step. What CUDA
takes for itself comes on top. For 64 images and ViT-S/16 or ViT-B/16 it gives 4.5 and 7.9 GiB; an H200 measured 4.6 and
8.0.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from datamodules.batches import SegmentationBatch
from datamodules.views import Crops, Views
from src.config.composition import Config, lookup
from src.config.defaults import completed
from src.config.yaml_reader import read
from src.pretraining import ContinualPretraining, cross_entropy

CLASSES = {"ade20k": 150, "cityscapes": 19, "loveda": 7, "pascal_context": 59}
DEVICE = torch.device("cpu")  # without contents; autocast gives these operations the same types as on CUDA
BLOCK = 512  # bytes, to which CUDA's allocator rounds


class Storages(TorchDispatchMode):
    """Bytes of the storages on the GPU that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of these tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if not isinstance(tensor, FakeTensor) or storage._cdata in self._alive:
                continue
            key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
            self._alive[key] = weakref.ref(storage, partial(self._free, key, size))
            self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int, _: object) -> None:
        del self._alive[key]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.hold(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))
        return result


def built(config: Config) -> Any:
    """The model of a configuration, with random weights."""
    model = config["model"]
    backbone = model["init_args"]["backbone"]
    backbone["init_args"] |= {"weights": "none", "adapter": None}
    if not model["class_path"].endswith("ContinualPretraining"):
        data = str(config["data"]["init_args"]["root"])
        model["init_args"] |= {"num_classes": CLASSES[Path(data).name], "ignore_index": 255}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    return parser.instantiate(parser.parse_object({"model": model})).model


def emptied(module: nn.Module) -> None:
    """Replace parameters and buffers by ones without contents on the GPU; what is shared stays shared."""
    made: dict[int, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            like = torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)
            made[id(tensor)] = nn.Parameter(like, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else like
        return made[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                tensors[name] = None if tensor is None else empty(tensor)  # type: ignore[assignment]


def batch_of(config: Config) -> Any:
    """A batch as the configuration's loader would give it."""
    data = config["data"]["init_args"]
    count = int(data["batch_size"])
    if data["task"] == "pretrain":

        def views(number: int, side: int) -> Views:
            images = torch.empty(number, count, 3, side, side, dtype=torch.uint8, device=DEVICE)
            boxes = torch.empty(number, count, 4, device=DEVICE)
            return Views(images, boxes, torch.empty(number, count, dtype=torch.bool, device=DEVICE))

        local = views(data["local_views"], data["local_size"]) if data.get("local_views") else None
        keys = (torch.empty(count, dtype=torch.int64, device=DEVICE) for _ in range(2))
        return Crops(views(2, data["size"]), local, *keys)
    side = lookup(data, "transforms.init_args.crop")
    images = torch.empty(count, 3, side, side, dtype=torch.uint8, device=DEVICE)
    masks = torch.empty(count, side, side, dtype=torch.int64, device=DEVICE)
    return SegmentationBatch(images, masks, torch.arange(count, device=DEVICE), [str(index) for index in range(count)])


def peak(config: Config) -> tuple[float, float]:
    """GiB before a step and at its peak, once the optimiser has its moments."""
    module = built(config)
    pretrains = isinstance(module, ContinualPretraining)
    cross_entropy._BLOCK_ELEMENTS.clear()  # scores computed at once as on a GPU
    bfloat16 = str(config["trainer"]["precision"]).startswith("bf16")
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as storages:
        emptied(module)
        module._trainer = SimpleNamespace(
            global_step=1000, current_epoch=9, estimated_stepping_batches=10_000,
            _logger_connector=SimpleNamespace(should_update_logs=False),
        )  # fmt: skip
        module.log = lambda *_, **__: None
        module.train()
        if pretrains:
            module.on_fit_start()
        for network in (module.student, module.teacher.network) if pretrains else (module,):
            network.backbone.checks_range = False
        optimiser = torch.optim.AdamW([one for one in module.parameters() if one.requires_grad], foreach=True)
        batch = batch_of(config)
        for _ in range(2):
            before = storages.now
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16):
                loss = module.training_step(batch, 0)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            del loss
            if pretrains:
                module.teacher.update(module.student, 0.99)
    return before / 2**30, storages.peak / 2**30


def main(arguments: list[str] | None = None) -> None:
    """Print a line a configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--batch", type=int, help="instead of the configuration's")
    parser.add_argument("--model", help="timm name, instead of the configuration's")
    options = parser.parse_args(arguments)
    for file in options.files:
        config = completed(read(file))
        if options.batch:
            config["data"]["init_args"]["batch_size"] = options.batch
        if options.model:
            config["model"]["init_args"]["backbone"]["init_args"]["name"] = options.model
        before, most = peak(config)
        print(f"{file}: {most:.1f} GiB at the peak, {before:.2f} GiB between steps")


if __name__ == "__main__":
    main()
