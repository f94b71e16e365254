"""Few labelled images, each scored once by probes that never saw it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.core.errors import UserError
from src.probes.cross_validation import CrossValidatedProbes, folds
from src.probes.fair_comparison import LabelledImage, compare

SIDE, PATCH, WIDTH = 32, 4, 6


def images(count: int) -> list[LabelledImage]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        mask = (torch.rand(SIDE // PATCH, SIDE // PATCH, generator=generator) < 0.4).to(torch.uint8)
        mask = mask.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        found.append(LabelledImage(index, f"{index}.png", mask.expand(3, -1, -1).float(), mask))
    return found


def maps(strength: float):
    """Features that hold the class of a patch with some strength beside noise, which depends on the image alone."""

    def of(image: Tensor) -> Tensor:
        patches = torch.nn.functional.avg_pool2d(image[:, :1], PATCH)
        generator = torch.Generator().manual_seed(int(image.sum()))
        noise = torch.randn(1, WIDTH, *patches.shape[-2:], generator=generator)
        return noise + strength * patches * torch.ones(1, WIDTH, 1, 1)

    return of


@pytest.mark.parametrize("count", [3, 4, 10, 41])
def test_every_image_is_scored_once_by_probes_of_the_others(count: int) -> None:
    probes = CrossValidatedProbes(images(count), 2)
    assert sorted(place for fold in probes.folds for place in fold) == list(range(count))
    assert len(probes.folds) == {3: 3, 4: 4, 10: 5, 41: 2}[count]
    row = probes.measure(maps(2.0))
    assert sorted(row.probe.names) == sorted(one.name for one in probes.images)
    assert row.probe.names == row.neighbours.names == row.whitened_neighbours.names
    assert row.probe.owners.unique().tolist() == list(range(count))
    assert int(row.probe.matrices.sum()) == count * SIDE * SIDE


def test_ten_images_tell_good_features_from_noise_and_a_row_from_itself() -> None:
    probes = CrossValidatedProbes(images(10), 2)
    noise, good, again = probes.measure(maps(0.2)), probes.measure(maps(3.0)), probes.measure(maps(3.0))
    changes, verdict = compare(noise, [good])
    assert verdict.word == "helped" and changes["miou"].low > 0
    changes, verdict = compare(good, [again])
    assert verdict.word == "inconclusive" and all(change.difference == 0 for change in changes.values())
    assert compare(good, [noise])[1].word == "harmed"


def test_folds_depend_on_the_seed_alone_and_two_images_are_too_few() -> None:
    assert folds(20, 5, 0) == folds(20, 5, 0) != folds(20, 5, 1)
    with pytest.raises(UserError, match="at least 3 labelled images, found 2"):
        CrossValidatedProbes(images(2), 2)
