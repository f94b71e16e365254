"""Information in the global level's targets on small batches of one domain, by head and target settings.

    DATA_ROOT=folder-that-holds-camvid python benchmarks/target_information.py [--steps 440] [--batches 90]

The class tokens of a frozen ViT-S/14 on two views of CamVid training images (8 images a batch, 168 px) are computed
once; then a projection head alone, with its moving average as the teacher, learns the global loss on them, over and
over. That leaves the adapters out and takes a minute instead of half an hour; the question is only whether the targets
tell one image from another. Per setting, at the last step:

- entropy of the targets in nats (log K = 6.93 is uniform) and divergence of the student from them;
- information: entropy of a batch's mean target minus the mean entropy, between 0 and log 16 = 2.77;
- retrieval: the share of 320 views whose other view is the nearest in the teacher's head among all 320.
"""

from __future__ import annotations

import argparse
import copy
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.camvid import CamVidDataModule
from src import load_backbone
from src.core.schedules import auto_momentum, cosine, linear, warmup_cosine
from src.pretraining.cross_entropy import cross_entropy
from src.pretraining.projection_head import ProjectionHead
from src.pretraining.target_summary import entropy
from src.pretraining.targets import Centring, SinkhornKnopp, Targets

PROTOTYPES, RATE, STUDENT = 1024, 1e-3, 0.1


@dataclass(frozen=True)
class Setting:
    """One row."""

    name: str
    targets: Targets
    initialisation: Literal["normal", "orthogonal"] = "normal"
    centred: bool = False


SETTINGS = (
    Setting("centre 0.9", Centring()),
    Setting("centre 0.9, τ 0.02", Centring(temperature=0.02)),
    Setting("Sinkhorn", SinkhornKnopp()),
    Setting("Sinkhorn, τ 0.02", SinkhornKnopp(temperature=0.02)),
    Setting("Sinkhorn, orthogonal head", SinkhornKnopp(), "orthogonal"),
    Setting("Sinkhorn, tokens centred", SinkhornKnopp(), centred=True),
    Setting("Sinkhorn, tokens centred, orthogonal head", SinkhornKnopp(), "orthogonal", True),
    Setting("Sinkhorn, tokens centred, orthogonal head, τ 0.03", SinkhornKnopp(temperature=0.03), "orthogonal", True),
    Setting("Sinkhorn, tokens centred, orthogonal head, τ 0.02", SinkhornKnopp(temperature=0.02), "orthogonal", True),
)


@torch.no_grad()
def class_tokens(batches: int) -> Tensor:
    """Class tokens `[batches, 2, 8, D]` of the frozen backbone."""
    data = CamVidDataModule(f"{os.environ['DATA_ROOT']}/camvid", task="pretrain", batch_size=8, size=168, num_workers=0)
    data.setup("fit")
    loader, backbone, tokens = data.train_dataloader(), load_backbone(), []
    while len(tokens) < batches:
        for crops in loader:
            images = crops.global_views.images
            tokens.append(backbone(images.flatten(0, 1)).cls.unflatten(0, images.shape[:2]))
    return torch.stack(tokens[:batches])


def learn(setting: Setting, tokens: Tensor, steps: int) -> str:
    """Trains a head on the global loss and describes its targets."""
    torch.manual_seed(0)
    student = ProjectionHead(tokens.shape[-1], PROTOTYPES, 1024, 256, initialisation=setting.initialisation)
    teacher, targets = copy.deepcopy(student), setting.targets
    targets.build(PROTOTYPES)
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], weight_decay=0.04)
    shown = tokens - tokens.mean(dim=(0, 1, 2)) if setting.centred else tokens
    for step in range(steps):
        a, b = shown[step % len(shown)]
        with torch.no_grad():
            wanted = targets(teacher(torch.stack((a, b))), linear(step, round(0.3 * steps), 0.04, 0.07))
        scores = student(torch.stack((b, a)))
        loss = cross_entropy(wanted, scores, STUDENT).mean()
        optimiser.zero_grad()
        loss.backward()
        if step < steps // 10:
            student.prototypes.zero_grad()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, steps, steps // 10, RATE, 1e-6)
        optimiser.step()
        momentum = cosine(step, steps, auto_momentum(steps), 1.0)
        with torch.no_grad():
            for moving, followed in zip(teacher.parameters(), student.parameters(), strict=True):
                moving.lerp_(followed, 1 - momentum)
    uncertainty, rows = entropy(wanted), wanted.flatten(0, 1)
    information = torch.special.entr(rows.mean(dim=0)).sum() - uncertainty
    with torch.no_grad():
        pool = shown[:40].transpose(1, 2).flatten(0, 1)  # [320, 2, D]
        codes = F.normalize(teacher.mlp(pool), dim=-1)
    found = (codes[:, 0] @ codes[:, 1].T).argmax(dim=1) == torch.arange(len(codes))
    values = (uncertainty, loss.detach() - uncertainty, information, found.float().mean())
    return f"| {setting.name} | " + " | ".join(f"{float(value):.2f}" for value in values) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=440)
    parser.add_argument("--batches", type=int, default=90)
    options = parser.parse_args()
    tokens = class_tokens(options.batches)
    mean = F.normalize(tokens.flatten(0, 2), dim=-1).mean(dim=0)
    print(f"mean cosine between class tokens: {float(mean @ mean):.2f}\n")
    print("| global level | entropy | divergence | information | retrieval |\n| --- | --- | --- | --- | --- |")
    for setting in SETTINGS:
        print(learn(setting, tokens, options.steps), flush=True)


if __name__ == "__main__":
    main()
