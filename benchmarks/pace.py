"""Steps on command: the protocol between `ratios.py` and the programs that it compares, in any environment.

A contestant is a training process. It calls `before` and `after` around each step, waits for a line on standard input
before each round, and reports on standard output after it. Contestants compute in turn, one at a time, so that other
work on the machine affects all of them alike.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

MARK = "@pace "


class Pace:
    """Rounds of steps.

    Args:
        steps: Steps of a round.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._done = 0
        self._seconds = self._began = self._worked = self._counted = 0.0
        self._imported = _peak()
        self._products: Any = None  # counts those of the first step, which no clock counts
        self._gflop: float | None = None
        self._losses: list[float] = []

    def before(self) -> None:
        """Wait for the start of the round, then start the clock; exits when the input is closed."""
        if self._done == 0:
            if not sys.stdin.readline():
                raise SystemExit(0)
            self._seconds, self._worked, self._losses = 0.0, 0.0, []
        if self._gflop is None and "torch" in sys.modules:
            self._products = _counter()
            self._products.__enter__()
        self._began, self._counted = time.perf_counter(), time.process_time()

    def after(self, loss: float | None = None) -> None:
        """Stop the clock, and report at the end of a round."""
        self._seconds += time.perf_counter() - self._began
        self._worked += time.process_time() - self._counted
        if self._products is not None:
            self._products.__exit__(None, None, None)
            self._gflop, self._products = self._products.get_total_flops() / 1e9, None
        self._losses += [] if loss is None else [loss]
        self._done = (self._done + 1) % self.steps
        if self._done == 0:
            report: dict[str, Any] = {
                "seconds": self._seconds / self.steps,
                "processor_seconds": self._worked / self.steps,
                "losses": self._losses,
                "gflop": None if self._gflop is None else round(self._gflop, 1),
                "peak_mib": round(_peak(), 1),
                "peak_above_imports_mib": round(_peak() - self._imported, 1),
            }
            print(f"\n{MARK}{json.dumps(report)}", flush=True)


def _counter() -> Any:
    """Counter of the operations of matrix products and attention, forward and backward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def added(self: Any, first: Any, second: Any, *_: Any, **__: Any) -> int:
        return int(2 * first[0] * first[1] * second[1])

    def attention(*shapes: Any, **_: Any) -> int:
        return int(sdpa_flop_count(*shapes[:3]))

    def attention_backward(*shapes: Any, **_: Any) -> int:
        return int(sdpa_backward_flop_count(*shapes[:4]))

    aten: Any = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten.addmm_: added,
            aten._scaled_dot_product_flash_attention_for_cpu: attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
        },
    )


def _peak() -> float:
    """Peak memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage also counts what the process was forked from
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        assert found is not None
        return int(found[1]) / 2**10
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / 2**20 if sys.platform == "darwin" else held / 2**10
