"""Dense structure against naive loops from its equation, and against lightly's regulariser on the same features."""

import math

import numpy as np
import pytest
import torch
from scipy.special import entr

from src.evaluation.dense_structure import DenseStructure, dense_structure, k_means
from src.evaluation.paired_interval import MeanOverPatches, paired_interval


def scenes(noise: float = 0.02, images: int = 16, seed: int = 0) -> torch.Tensor:
    """Patches `[N, 60, 32]` around 24 orthogonal directions, three to an image, each in two images."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64))[0][:24]
    return torch.stack(
        [
            directions[3 * (image % 8) + torch.arange(60) % 3]
            + noise * torch.randn(60, 32, generator=generator, dtype=torch.float64)
            for image in range(images)
        ]
    )


def naive(patches: np.ndarray, left_out: int | None = None) -> dict[str, float]:
    """The equation, with the clusters that the scenes were made of; of all images, or of all but one."""
    patches = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    images, per_image, width = patches.shape

    def spread(cluster: np.ndarray) -> float:
        singular = np.linalg.svd(cluster - cluster.mean(0), compute_uv=False)
        return singular.sum() / math.sqrt(max(len(cluster) - 1, width))

    kept = [image for image in range(images) if image != left_out]
    part = np.arange(per_image) % 3
    own = np.mean([spread(patches[image, part == index]) for image in kept for index in range(3)])
    inter, intra = [], []
    for start in range(0, images, 8):
        clusters = [(image, index) for image in range(start, start + 8) for index in range(3)]
        centroids = np.stack([patches[image, part == index].mean(0) for image, index in clusters])
        for place, (image, index) in enumerate(clusters):
            if image != left_out:
                others = np.delete(centroids, place, axis=0)
                cluster = patches[image, part == index]
                inter += [min(np.linalg.norm(patch - other) for other in others) for patch in cluster]
                intra.append(spread(cluster))
    flat = patches[kept].reshape(-1, width)
    singular = np.linalg.svd(flat, compute_uv=False)
    scale = np.linalg.norm(flat - flat.mean(0), axis=1).mean()
    return {
        "inter": np.mean(inter) / scale,
        "intra": np.mean(intra) / scale,
        "intra_image": own / scale,
        "dimension": math.exp(entr(singular / singular.sum()).sum()) / min(flat.shape),
    }


@pytest.fixture(scope="module")
def found() -> DenseStructure:
    """The scenes' structure from a start that finds their clusters: the best of several."""
    return max((dense_structure(scenes(), seed=seed) for seed in range(3)), key=lambda one: one.value)


def test_it_equals_naive_loops_and_lightly(found: DenseStructure) -> None:
    for name, value in naive(scenes().numpy()).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6), name
    assert found.value == pytest.approx(1.8949108130805827, rel=1e-9)  # lightly 1.6.0, −DSERegularizer()(scenes())


def test_pseudo_values_are_those_of_leaving_one_image_out(found: DenseStructure) -> None:
    for image in (0, 5, 15):
        parts = naive(scenes().numpy(), left_out=image)
        rest = parts["inter"] + parts["dimension"] - 0.5 * (parts["intra"] + parts["intra_image"])
        assert found.pseudo_values[image] == pytest.approx(16 * found.value - 15 * rest, rel=1e-6)
    nothing = MeanOverPatches(np.zeros(16), np.ones(16))
    interval = paired_interval([nothing], [found.statistic()])
    error = found.pseudo_values.std(ddof=1) / 4
    assert interval.difference == found.value
    assert (interval.high - interval.low) / 2 == pytest.approx(2.13 * error, rel=0.08)


def test_the_parts_say_what_they_should() -> None:
    tight, loose = dense_structure(scenes(0.02)), dense_structure(scenes(0.2))
    assert tight.separability > loose.separability and tight.intra < loose.intra
    flat = scenes(0.02) * torch.cat((torch.ones(4), torch.full((28,), 0.05)))  # few directions matter
    assert dense_structure(flat).dimension < tight.dimension


def test_a_change_is_certain_only_beyond_the_images_noise() -> None:
    before, after = dense_structure(scenes(0.1)), dense_structure(scenes(0.02))
    assert paired_interval([before.statistic()], [after.statistic()]).low > 0
    assert not paired_interval([before.statistic()], [before.statistic()]).certain


def test_it_is_deterministic_whatever_the_global_generator() -> None:
    patches = torch.randn(5, 30, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = dense_structure(patches)
    torch.manual_seed(2)
    again = dense_structure(patches)
    assert first.value == again.value and (first.pseudo_values == again.pseudo_values).all()


def test_k_means_finds_separate_clusters_and_bears_fewer_distinct_patches_than_clusters() -> None:
    points = torch.tensor([0.0, 0.1, 5.0, 5.1, 9.0])[:, None]
    centroids, labels = k_means(points, 3, torch.Generator().manual_seed(0))
    assert sorted(round(float(value), 2) for value in centroids) == [0.05, 5.05, 9.0]
    assert labels[0] == labels[1] != labels[2] == labels[3] != labels[4]
    same = k_means(torch.ones(6, 2), 4, torch.Generator().manual_seed(0))
    assert bool(same.centroids.isfinite().all()) and len(same.labels) == 6


def test_what_has_no_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        dense_structure(torch.randn(1, 5, 4))
    with pytest.raises(ValueError, match="all patch features are the same"):
        dense_structure(torch.ones(3, 5, 4))
    with pytest.raises(ValueError, match="NaN"):
        dense_structure(torch.full((3, 5, 4), torch.nan))
