"""Number of labelled images that make the sign of a verdict right, from the confusion matrices of a finished study.

    python benchmarks/label_curve.py runs/quickstart [--draws 2000] [--seed 0]

For each row and mIoU column of the study, the change against the baseline on all evaluation images is taken as the
truth; the same change is then computed on random subsets of a few images, and the table gives the share of subsets
whose sign agrees. The heads are always those trained on all training images: the curve shows how many labels an
evaluation needs, not how many a head needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.studies.results.verdicts import comparisons, counted_images, read_table

SIZES = (3, 5, 10, 20, 40, 80)


def change(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Difference of mIoU in points, of intersections and unions `[S, n, 2, C]` of S seeds and n images."""

    def miou(counts: NDArray[np.float64]) -> float:
        inside, union = np.moveaxis(counts.sum(axis=1), 1, 0)  # [S, C] each
        there = union > 0
        return 100 * float(np.mean([(i[t] / u[t]).mean() for i, u, t in zip(inside, union, there, strict=True)]))

    return miou(after) - miou(before)


def curve(
    before: NDArray[np.float64], after: NDArray[np.float64], sizes: tuple[int, ...], draws: int, seed: int
) -> dict[int, float]:
    """Share of random subsets of each size in which the sign is that of all images.

    Args:
        before: Intersections and unions of the baseline, `[S, N, 2, C]`.
        after: The same of the adapted row.
        sizes: Numbers of images; those of N or more are left out.
        draws: Subsets of each size, without replacement.
        seed: Of the subsets.
    """
    random = np.random.default_rng(seed)
    truth = np.sign(change(before, after))
    shares = {}
    for size in (size for size in sizes if size < before.shape[1]):
        subsets = [random.permutation(before.shape[1])[:size] for _ in range(draws)]
        shares[size] = float(np.mean([np.sign(change(before[:, part], after[:, part])) == truth for part in subsets]))
    return shares


def rows(folder: Path) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Label, baseline and row of each comparison of a study.

    Raises:
        MissingFile: If the study has no table.
    """
    found = []
    for item in comparisons(folder, read_table(folder)):
        if item.pairs:
            sides = [np.stack([counted_images(pair[side]).overlaps for pair in item.pairs]) for side in (0, 1)]
            found.append((f"{item.row['label']}, {item.column['label']}", sides[0], sides[1]))
    return found


def main() -> None:
    """Print the curve of every row of a study as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, nargs="+", help="folder of a finished study, such as runs/quickstart")
    parser.add_argument("--draws", type=int, default=2000, help="subsets of each size")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| row | images | change on all | " + " | ".join(f"{size} images" for size in SIZES) + " |")
    print("| --- | --- | --- | " + " | ".join("---" for _ in SIZES) + " |")
    for folder in options.study:
        for label, before, after in rows(folder):
            shares = curve(before, after, SIZES, options.draws, options.seed)
            cells = [f"{100 * shares[size]:.0f} %" if size in shares else "" for size in SIZES]
            print(f"| {label} | {before.shape[1]} | {change(before, after):+.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
