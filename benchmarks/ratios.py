"""Ratios of speed and memory in one table: this project against its own variants, peers, and earlier commits.

    make benchmark                                        # or: python benchmarks/ratios.py --out ratios.json
    make benchmark ARGS="--commit 570062c --udi ../udi"   # with more rows; --only PART for some of them

Two contestants of a row are two processes that take turns, a few steps each, so that other work on the machine affects
both; the ratio is the median over the turns, and the first turn is not counted. The ratio of CPU time, over all
threads, is hardly affected by other work. Memory is each process's own peak. Everything is computed on the processor,
on two views of random images, in 32 bits unless --precision says otherwise. GFLOP are those of the matrix products and
the attention of one step, counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from turns import TREE, Contestant, Pair, measure

HERE = Path(__file__).resolve().parent


def ours(name: str, folder: Path = TREE, **options: object) -> Contestant:
    """This project's step; options are those of `contestant_ours.py`."""
    flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return Contestant(name, (sys.executable, str(HERE / "contestant_ours.py"), *flags), folder)


@dataclass(frozen=True)
class Scale:
    """Sizes, which the toy scale shrinks."""

    model: str = "vit_small_patch14_dinov2"
    udi_model: str = "vit_small_patch16_224"
    depth: int = 12
    side: int = 168
    large_side: int = 224
    batch: int = 8
    hidden: int = 1024
    prototypes: int = 1024
    large_hidden: int = 2048
    large_prototypes: int = 8192
    local: int = 10
    photographs: int = 32


TOY = Scale("test_vit", "test_vit", 6, 32, 32, 2, 16, 32, 16, 32, 2, 4)


def pairs(scale: Scale, options: argparse.Namespace, stack: ExitStack) -> Iterator[Pair]:
    """The rows that the options ask for."""
    size: dict[str, object] = {"model": scale.model, "batch": scale.batch, "side": scale.side}
    size["precision"] = options.precision
    small = size | {"hidden": scale.hidden, "prototypes": scale.prototypes}
    large = size | {"hidden": scale.large_hidden, "prototypes": scale.large_prototypes, "side": scale.large_side}
    words = f"{scale.batch} images, 2×{scale.side} px, K {scale.prototypes}"
    full = ours("everything trains", **small, trains="everything")
    for name, trains in (("UniAdapter", "uniadapter"), ("LoRA on every linear layer", "lora")):
        yield Pair("own", words, ours(name, **small, trains=trains), full)
    for last in (4, 6, 8):
        first = max(1, scale.depth * (12 - last) // 12)
        yield Pair("blocks", words, ours(f"UniAdapter from block {first} on", **small, first_block=first), full)
    if options.commit:
        past = stack.enter_context(worktree(options.commit))
        preset = small | {"targets": "sinkhorn"}
        wide = f"{scale.batch} images, 2×{scale.large_side} px, K {scale.large_prototypes}"
        lora = small | {"trains": "lora"}
        yield Pair("commit", words, ours("LoRA on every linear layer", **lora), ours(options.commit, past, **lora))
        yield Pair("commit", words, ours("small-run preset", **preset), ours(options.commit, past, **preset))
        yield Pair("commit", wide, ours("centring", **large), ours(options.commit, past, **large))
    photographs = stack.enter_context(images(scale.photographs))
    if options.lightly:
        peer = "dinov2/_vittest14" if options.toy else "dinov2/vits14-noreg-notpretrained"
        side = 28 if options.toy else scale.large_side
        flags = {"model": peer, "batch": scale.batch, "side": side, "prototypes": scale.large_prototypes}
        program = (os.path.abspath(options.lightly), str(HERE / "contestant_lightly.py"), str(photographs))
        settings = tuple(part for key, value in flags.items() for part in (f"--{key}", str(value)))
        words = f"{scale.batch} images, 2×{side} px, K {scale.large_prototypes}"
        model = "vit_small_patch14_dinov2"
        mine = ours("UniAdapter", **large | {"model": model, "side": side, "precision": "32-true"})
        yield Pair("lightly-train", words, mine, Contestant("DINOv2", (*program, *settings)))
    if options.udi:
        checkout = str(Path(options.udi).resolve())
        views: tuple[str, ...] = ("--batch", str(scale.batch), "--local", str(scale.local))
        views += ("--prototypes", str(8192))
        program = (options.udi_python, str(HERE / "contestant_udi.py"), checkout, str(photographs))
        mine = ours("UniAdapter", **large | {"model": scale.udi_model, "local": scale.local, "precision": "32-true"})
        yield Pair("udi", f"{scale.batch} images, 2 + {scale.local} views", mine, Contestant("UDI", (*program, *views)))


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tree"
        subprocess.run(["git", "-C", str(TREE), "worktree", "add", "-q", "--detach", str(place), commit], check=True)
        try:
            yield place
        finally:
            subprocess.run(["git", "-C", str(TREE), "worktree", "remove", "--force", str(place)], check=True)


@contextmanager
def images(count: int) -> Iterator[Path]:
    """A folder of one folder of photographs of 640×480 px."""
    draws = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all").mkdir()
        for index in range(count):
            small = Image.fromarray(draws.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).save(Path(folder) / "all" / f"{index}.jpg", quality=90)
        yield Path(folder)


def reader(count: int) -> dict[str, Any]:
    """`reading.py`: training pairs of this project's loader against torchvision v2, per core."""
    command = [sys.executable, str(HERE / "reading.py"), "--images", str(count)]
    result = subprocess.run(command, cwd=TREE, env=os.environ | {"PYTHONPATH": str(TREE)}, stdout=subprocess.PIPE)
    if result.returncode:
        raise RuntimeError(f"reading.py ended with {result.returncode}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def table(rows: list[dict[str, Any]], reading: dict[str, Any] | None) -> str:
    """The report as Markdown."""
    lines = [
        "| | setting | ours | other | s a step | time, other / ours | processor time | GFLOP | peak MiB | memory "
        "| losses |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['part']} | {row['setting']} | {row['ours']} | {row['other']} | failed | | | | | | |")
            continue
        low, high = row["time_ratio_range"]
        difference = row["largest_relative_difference_of_losses"]
        lines.append(
            f"| {row['part']} | {row['setting']} | {row['ours']} | {row['other']} | {row['ours_seconds']:.2f}, "
            f"{row['other_seconds']:.2f} | **{row['time_ratio']:.2f}** ({low:.2f}–{high:.2f}) | "
            f"{row['processor_time_ratio']:.2f} | {row['ours_gflop'] or 0:.0f}, {row['other_gflop'] or 0:.0f} | "
            f"{row['ours_peak_mib']:.0f}, {row['other_peak_mib']:.0f} | "
            f"{row['memory_ratio']:.2f}, above imports {row['memory_ratio_above_imports']:.2f} | "
            f"{'' if difference is None else f'{difference:.1e}'} |"
        )
    if reading:
        rates = f"{reading['ours_images_per_second_and_core']}, {reading['torchvision_images_per_second_and_core']}"
        lines.append(
            f"| reader | pairs of 683×512 px | ours | torchvision v2 | {rates} images a second and core | "
            f"| **{reading['ratio']:.2f}** | | | | |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the report goes as JSON")
    parser.add_argument("--commit", help="an earlier commit of this repository, to compare with")
    parser.add_argument("--lightly", metavar="PYTHON", help="the Python of an environment with lightly-train")
    parser.add_argument("--udi", metavar="FOLDER", help="a checkout of ISL-CV/udi")
    parser.add_argument("--udi-python", default=sys.executable, metavar="PYTHON", help="of an environment for it")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of a turn")
    parser.add_argument("--only", action="append", help="own, blocks, commit, lightly-train, udi or reader")
    parser.add_argument("--precision", default="32-true", help="of ours, but for the rows against peers (%(default)s)")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for pair in pairs(TOY if options.toy else Scale(), options, stack):
            if options.only and pair.part not in options.only:
                continue
            try:
                rows.append(measure(pair, options.turns, options.steps))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                names = {"ours": pair.ours.name, "other": pair.other.name}
                rows.append({"part": pair.part, "setting": pair.setting, **names, "failed": True})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    reading = reader(8 if options.toy else 100) if not options.only or "reader" in options.only else None
    commit = subprocess.run(["git", "-C", str(TREE), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True)
    report = {
        "commit": commit.stdout.strip(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "rows": rows,
        "reader": reading,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(rows, reading))
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
