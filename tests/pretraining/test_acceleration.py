"""A fit does no work for nobody, waits for no device within a step, and computes the same however it is accelerated."""

import dataclasses
import functools
from contextlib import ExitStack, nullcontext

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from src.backbones.adapters import Full, LastBlocks, LoRA, UniAdapter
from src.callbacks.checkpoint import RunCheckpoint
from src.callbacks.progress import Progress
from src.callbacks.throughput import Throughput
from src.monitoring.divergence import DivergenceGuard
from src.monitoring.guards import Guards
from src.pretraining import consistency
from src.pretraining.acceleration import Acceleration
from src.pretraining.anchors import CosineAnchor, GramAnchor
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.distillation import MultiScaleDistillation
from src.pretraining.patch_augmentation import Blur, Grey, Mask, Noise, Shuffle
from src.pretraining.regions import AttentionAware, Grid, MostAttended, Uniform
from src.pretraining.targets import Centring, SinkhornKnopp
from tests.pretraining.test_calibrated_pretraining import model as calibrated_model
from tests.pretraining.test_module import FAST, batches, fit, model, snapshot
from tests.tiny import random_crops, tiny_backbone

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default)
COPIES = (torch.ops.aten.lift_fresh.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default)


class Waits(TorchDispatchMode):
    """Operations that read a tensor's value on the host, copy one from it, or whose shape depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS + COPIES:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def waits_of(module, monkeypatch, tmp_path, **options) -> list[str]:
    """Synchronisations in the later steps of a fit, from their start to the gradients, and in the teacher's update.

    At the first step Lightning makes a tensor for each new name that is logged.
    """
    waits = Waits()

    def watched(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with waits if module.global_step else nullcontext():
                return function(*args, **kwargs)

        return wrapper

    for target, name in (
        (module, "training_step"), (module, "on_train_batch_start"), (module, "backward"),
        (module, "configure_gradient_clipping"), (module.teacher, "update"),
    ):  # fmt: skip
        monkeypatch.setattr(target, name, watched(getattr(target, name)))
    fit(module, tmp_path, steps=3, **options)
    return waits.found


OBJECTIVES = [
    None,
    {"l": LocalConsistency(patches=5, distorted_only=True), "g": GlobalConsistency(centre_tokens=True)},
    {"l": LocalConsistency(targets=SinkhornKnopp()), "c": CosineAnchor(), "m": GramAnchor()},
    *({"r": RegionalConsistency(regions=kind(3))} for kind in (AttentionAware, MostAttended, Uniform, Grid)),
]


@pytest.mark.parametrize("objectives", OBJECTIVES, ids=["default", "subset", "anchors", *"amug"])
def test_no_objective_waits_for_the_device(objectives, monkeypatch, tmp_path):
    module = model(monkeypatch, dataclasses.replace(FAST, head_warmup=0.4), objectives=objectives)
    assert waits_of(module, monkeypatch, tmp_path, local=2, log_every_n_steps=50) == []


@pytest.mark.parametrize("loss", ["cosine", "prototypes"])
def test_distillation_at_other_scales_does_not_wait_for_the_device(loss, monkeypatch, tmp_path):
    module = calibrated_model(monkeypatch, {"distillation": MultiScaleDistillation(scales=(0.5, 1.0, 1.5), loss=loss)})
    assert waits_of(module, monkeypatch, tmp_path, log_every_n_steps=50) == []


@pytest.mark.parametrize("augmentation", [Blur(), Grey(), Mask(), Noise(), Shuffle()], ids=lambda a: type(a).__name__)
def test_no_patch_augmentation_waits_for_the_device(augmentation, monkeypatch, tmp_path):
    module = model(monkeypatch, patch_augmentation=augmentation)
    assert waits_of(module, monkeypatch, tmp_path, log_every_n_steps=50) == []


def test_the_test_above_sees_what_it_looks_for(monkeypatch, tmp_path):
    module = model(monkeypatch)
    original = module.patch_augmentation
    monkeypatch.setattr(module, "patch_augmentation", lambda *a: bool(torch.tensor(1.0) > 0) and original(*a))
    assert len(waits_of(module, monkeypatch, tmp_path, log_every_n_steps=50)) >= 2 * 2


def test_no_callback_waits_for_the_device_between_logged_steps(monkeypatch, tmp_path):
    """Progress reads the loss for each of its lines, ten in a fit."""
    module, callbacks = model(monkeypatch), [Guards(), RunCheckpoint(), DivergenceGuard(), Throughput(), Progress()]
    waits = {type(callback): Waits() for callback in callbacks}

    def watched(hook, waits):
        def wrapper(trainer, *args):
            with waits if trainer.global_step > 1 else nullcontext():
                return hook(trainer, *args)

        return wrapper

    for callback in callbacks:
        for name in ("on_train_batch_start", "on_train_batch_end"):
            monkeypatch.setattr(callback, name, watched(getattr(callback, name), waits[type(callback)]))
    trainer = Trainer(
        max_steps=40, accelerator="cpu", logger=False, enable_model_summary=False, default_root_dir=tmp_path,
        log_every_n_steps=50, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, batches(40))
    assert 0 < len(waits.pop(Progress).found) <= 2 * 10
    assert all(seen.found == [] for seen in waits.values())


@pytest.mark.parametrize("every", [1, 2, 50])
def test_targets_are_described_on_the_steps_that_are_logged(every, monkeypatch, tmp_path):
    described = []
    original = consistency.TargetSummary.watch

    def watch(self, blocks):
        described.append(module.global_step)
        yield from original(self, blocks)

    monkeypatch.setattr(consistency.TargetSummary, "watch", watch)
    module = model(monkeypatch, objectives={"global": GlobalConsistency()})
    trainer = fit(module, tmp_path, steps=4, log_every_n_steps=every)
    assert described == [step for step in range(4) if (step + 1) % every == 0]
    assert ("train/target_entropy/global" in trainer.callback_metrics) == (every < 50)


@pytest.mark.parametrize("adapter", [UniAdapter(rank=4), LoRA(rank=2), Full()], ids=str)
def test_head_warmup_makes_no_graph_of_the_backbone_and_learns_the_same(adapter, monkeypatch, tmp_path):
    """Against dropping the gradients after a backward through all of it."""
    heads = []
    for whole in (False, True):
        module = model(monkeypatch, dataclasses.replace(FAST, head_warmup=1.0), adapter=adapter)
        graph = []
        original = type(module.student).forward

        def forward(self, *args, whole=whole, graph=graph, original=original, **options):
            if whole:
                options["backbone_learns"] = True
            with saved_tensors_hooks(lambda t: graph.append(t.numel()) or t, lambda t: t):
                return original(self, *args, **options)

        monkeypatch.setattr(module.student, "forward", functools.partial(forward, module.student))
        before = snapshot(module.student.backbone)
        zeros = []

        def clip(*args, zeros=zeros, module=module, clip=module.configure_gradient_clipping, **options):
            zeros += [p.grad is not None for _, p in module.student.backbone.trainable()]
            clip(*args, **options)

        monkeypatch.setattr(module, "configure_gradient_clipping", clip)
        fit(module, tmp_path, local=1)
        after = snapshot(module.student.backbone)
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert all(zeros) and zeros  # as DDP needs it
        trained = sum(p.numel() for _, p in module.student.backbone.trainable())
        assert (sum(graph) <= 3 * 2 * trained) == (not whole)  # three steps, global and local views
        heads.append(snapshot(module.student.head))
    for name in heads[0]:
        assert torch.allclose(heads[0][name], heads[1][name], atol=1e-6), name


@pytest.mark.parametrize("depth", [0, 1])
def test_blocks_below_the_first_adapter_run_without_a_graph(depth, monkeypatch):
    backbone = tiny_backbone(monkeypatch)
    backbone.install(LastBlocks(backbone.depth - depth))
    graph = [[] for _ in backbone.trunk.blocks]
    for block, kept in zip(backbone.trunk.blocks, graph, strict=True):
        original = block.forward

        def forward(tokens, kept=kept, original=original):
            with saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
                return original(tokens)

        monkeypatch.setattr(block, "forward", forward)
    backbone(random_crops(2).global_views.images[0])
    assert [bool(kept) for kept in graph] == [at >= depth for at in range(backbone.depth)]


@pytest.mark.parametrize("change", [{"compile": True}, {"checkpoint_blocks": True}], ids=str)
@pytest.mark.parametrize("adapter", [UniAdapter(rank=4), LoRA(rank=2), Full()], ids=str)
def test_compiled_and_checkpointed_blocks_learn_the_same(change, adapter, monkeypatch, tmp_path):
    compiled = []
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self) or original(self, backend="eager"))
    outcomes = []
    for settings in (Acceleration(), Acceleration(**change)):
        module = model(monkeypatch, adapter=adapter, acceleration=settings)
        fit(module, tmp_path)
        outcomes.append(module.state_dict())
    assert outcomes[0].keys() == outcomes[1].keys()  # no _orig_mod in a checkpoint
    for name, value in outcomes[0].items():
        assert torch.allclose(value, outcomes[1][name], atol=1e-5), name
    assert len(compiled) == (2 * module.student.backbone.depth if "compile" in change else 0)


def test_checkpointed_blocks_keep_their_inputs_alone(monkeypatch):
    kept = []
    for checkpointed in (False, True):
        backbone = tiny_backbone(monkeypatch)
        backbone.install(Full())
        backbone.checkpoint_blocks = checkpointed
        total: list[int] = []
        with ExitStack() as stack:
            stack.enter_context(saved_tensors_hooks(lambda t, total=total: total.append(t.numel()) or t, lambda t: t))
            backbone(random_crops(2).global_views.images[0])
        kept.append(sum(total))
    assert kept[1] < 0.5 * kept[0]


def test_the_optimiser_is_fused_on_cuda_alone_and_not_where_it_unscales():
    settings = Acceleration()
    assert settings.fuses(torch.device("cuda"), "bf16-mixed") and not settings.fuses(torch.device("cpu"), "32-true")
    assert not settings.fuses(torch.device("cuda"), "16-mixed")
    assert not Acceleration(fused_optimizer=False).fuses(torch.device("cuda"), "32-true")


@pytest.mark.parametrize("precision", ["high", "highest"])
def test_float32_products_take_the_precision_on_cuda_alone(precision, monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", told.append)
    backbone = tiny_backbone(monkeypatch)
    for device in ("cpu", "cuda"):
        Acceleration(matmul_precision=precision).prepare(backbone, backbone, torch.device(device))
    assert told == [precision]


def test_a_deterministic_fit_does_not_fill_uninitialised_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    fit(model(monkeypatch), tmp_path, steps=1, deterministic="warn")
    try:
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)


def test_centring_makes_no_tensor_from_python_numbers():
    targets = Centring()
    targets.build(5)
    with Waits() as waits:
        targets(torch.randn(4, 5), 0.1)
        list(targets.blocks(torch.randn(4, 3), torch.randn(5, 3), 0.1))
    assert waits.found == []
