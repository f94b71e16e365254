"""A bounded sample of patches: the same subset for any order of images and any number of ranks."""

from collections.abc import Sequence

import pytest
import torch
from torch import distributed

from src.evaluation.patch_sample import PatchSample


def fill(sample: PatchSample, images: Sequence[int]) -> PatchSample:
    for index in images:
        patches = torch.arange(20) + 100 * index
        sample.add(index, torch.arange(20) % 4 != 0, patches, patches[:, None] / 2)
    return sample


def test_everything_kept_comes_back_with_its_image() -> None:
    numbers, halves, owners = fill(PatchSample(), [2, 0]).gathered()
    expected = [image * 100 + place for image in (0, 2) for place in range(20) if place % 4]
    assert numbers.tolist() == expected and halves.flatten().tolist() == [number / 2 for number in expected]
    assert owners.tolist() == [0] * 15 + [2] * 15


@pytest.mark.parametrize("bound", [7, 40, 150])
def test_the_subset_depends_on_the_images_alone(bound: int) -> None:
    first = fill(PatchSample(bound), range(10)).gathered()
    again = fill(PatchSample(bound), [9, 3, 3, 1, 0, 2, 8, 7, 6, 5, 4, 9]).gathered()
    assert len(first[0]) == bound
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    other = fill(PatchSample(bound, seed=1), range(10)).gathered()
    assert bound == 150 or not torch.equal(first[0], other[0])


def test_patches_are_kept_uniformly() -> None:
    _, _, owners = fill(PatchSample(1000), range(200)).gathered()  # 3,000 patches
    counts = owners.bincount(minlength=200).double()
    assert counts.mean() == 5 and counts.var() == pytest.approx(5 * 2 / 3, rel=0.35)  # hypergeometric


def test_two_ranks_keep_what_one_process_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = fill(PatchSample(40), range(10)).gathered()
    first, second = fill(PatchSample(40), range(0, 10, 2)), fill(PatchSample(40), range(1, 10, 2))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        distributed, "all_gather_object", lambda parts, held: parts.__setitem__(slice(None), [held, second._images])
    )
    together = first.gathered()
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))


def test_half_precision_is_kept_as_single() -> None:
    sample = PatchSample()
    sample.add(0, torch.ones(2, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bfloat16))
    assert sample.gathered()[0].dtype == torch.float32


def test_an_empty_sample_and_a_bad_bound_are_refused() -> None:
    with pytest.raises(ValueError, match="none of the patches of 0 images"):
        PatchSample().gathered()
    with pytest.raises(ValueError, match="max_patches 0"):
        PatchSample(0)
