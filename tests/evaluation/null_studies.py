"""Simulated studies in which nothing helps: per-image confusion matrices of two rows that are alike by construction.

`python tests/evaluation/null_studies.py` prints the coverage of zero on 1,000 of them for each size of the seed effect.
"""

import numpy as np
from numpy.typing import NDArray

from src.evaluation.significance import judge, overlaps, scores

CLASSES, PIXELS = 5, 2000
EASE = np.array([2.0, 1.5, 1.0, 0.5, 0.0])  # log-odds of a right pixel, class by class


def null_rows(
    rng: np.random.Generator, seeds: int, images: int, seed_effect: float, interaction: float = 0.15
) -> NDArray[np.int64]:
    """Confusion matrices [2, S, N, C, C] of two rows that differ by chance alone.

    Args:
        rng: the source of chance.
        seeds: S.
        images: N.
        seed_effect: standard deviation, in log-odds, of how good a seed of a row is on all images.
        interaction: standard deviation, in log-odds, of how good a seed of a row is on one image.
    """
    share = rng.dirichlet(np.ones(CLASSES), size=images)  # of each class in each image
    difficulty = rng.normal(0, 0.6, size=(1, 1, images, 1))
    taste = rng.normal(0, 0.25, size=(2, 1, images, 1))  # a row's own liking for an image, the same for each seed
    luck = rng.normal(0, interaction, size=(2, seeds, images, 1))
    seed = rng.normal(0, seed_effect, size=(2, seeds, 1, 1)) if seed_effect else 0.0
    right = 1 / (1 + np.exp(-(EASE + difficulty + taste + luck + seed)))  # [2, S, N, C]
    pixels = np.rint(share * PIXELS)
    hits = np.rint(pixels * right)
    misses = (pixels - hits) / (CLASSES - 1)
    matrices = np.repeat(misses[..., None], CLASSES, axis=-1)
    matrices[..., range(CLASSES), range(CLASSES)] = hits
    return np.rint(matrices).astype(np.int64)


def differences(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """mIoU differences [S] of simulated rows."""
    summed = [[scores(overlaps(seed).sum(0))[0] for seed in row] for row in rows]
    return np.asarray(summed[1]) - np.asarray(summed[0])


def effect_for(ratio: float, seeds: int, images: int) -> float:
    """The seed effect, in log-odds, that moves a seed's difference by `ratio` times the images' noise of the mean."""
    rng = np.random.default_rng(12345)
    noise = np.std([differences(null_rows(rng, seeds, images, 0.0)).mean() for _ in range(400)])
    quiet = np.var(np.concatenate([differences(null_rows(rng, seeds, images, 0.0)) for _ in range(400)]))
    loud = np.var(np.concatenate([differences(null_rows(rng, seeds, images, 0.2)) for _ in range(400)]))
    return 0.2 * ratio * float(noise / np.sqrt(loud - quiet))


def coverage(ratio: float, seeds: int, images: int, studies: int, draws: int = 500) -> float:
    """Share of `studies` null studies whose 95 % interval covers zero."""
    effect = effect_for(ratio, seeds, images) if ratio else 0.0
    rng = np.random.default_rng(round(1000 * ratio) + seeds)
    covered = 0
    for _ in range(studies):
        before, after = null_rows(rng, seeds, images, effect)
        covered += not judge(list(before), list(after), [str(c) for c in range(CLASSES)], draws=draws).miou.certain
    return covered / studies


if __name__ == "__main__":
    for seeds, images in ((3, 101), (3, 20), (2, 101), (5, 101)):
        results = {ratio: coverage(ratio, seeds, images, 1000) for ratio in (0.0, 0.5, 1.0, 2.0)}
        shown = ", ".join(f"{share:.1%} at {ratio:g}" for ratio, share in results.items())
        print(f"{seeds} seeds, {images} images, coverage at seed effect / image noise: {shown}", flush=True)
