#!/usr/bin/env bash
# Speed and memory of pre-training on this machine's GPU, in at most 8 minutes, as one JSON file; see gpu.py.
#   bash benchmarks/gpu.sh report.json [--budget-seconds 480] [--batch 64 128 256] [--workers 16] [--toy]
set -euo pipefail
report=$(realpath -m "${1:?where should the report go? bash benchmarks/gpu.sh report.json}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=. PYTHONWARNINGS=ignore exec "${PYTHON:-python3}" benchmarks/gpu.py "$report" "$@"
