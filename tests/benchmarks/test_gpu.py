"""The GPU benchmark runs end to end on a processor, at toy size, and its report holds what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_the_benchmark_runs_on_a_processor_and_keeps_to_its_budget(tmp_path):
    # 90 s is what a compiled case must have left, so that none begins
    done = run(str(tmp_path / "report.json"), "--toy", "--batch", "2", "4", "--workers", "0", "--budget-seconds", "89")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["device"] == "cpu" and report["bf16_matrix_tflop_per_second"] > 0
    assert {(case["trains"], case["terms"], case["head"]) for case in report["cases"]} >= {
        ("adapters", "all", "default"), ("everything", "all", "default")
    }  # fmt: skip
    for case in report["cases"]:
        assert case["images_per_second"] == pytest.approx(1e3 * case["batch"] / case["ms_per_step"], rel=0.02)
        assert case["tflop_per_step"] >= 0 and case["peak_memory_gib"] > 0 and case["waits_for_the_device"] == []
    assert [case["compiled"] for case in report["skipped_for_want_of_time"]][-1:] == [True]
    assert report["loader"]["images_per_second"] > 0


def test_a_folder_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    done = run(str(tmp_path / "absent" / "report.json"), "--toy")
    assert done.returncode == 2 and "a folder that exists" in done.stderr


def test_a_report_without_a_path_is_refused():
    done = run()
    assert done.returncode != 0 and "report.json" in done.stderr
