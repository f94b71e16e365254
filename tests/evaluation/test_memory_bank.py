"""The memory bank keeps labelled patches, normalised, and the same subset in any order."""

import pytest
import torch

from src.evaluation.dense_knn import DenseKNN
from src.evaluation.memory_bank import MemoryBank


def image(index: int) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Ten patches (2×5) of two classes; the last one has no label. Features name the patch."""
    features = torch.stack((torch.full((10,), index + 1.0), torch.arange(10.0)), dim=1)
    counts = torch.zeros(2, 2, 5)
    counts[0] = 3
    counts[1, 0] = 1
    counts[:, 1, 4] = 0
    return index, features, counts


def test_patches_come_normalised_with_fractions_and_without_the_unlabelled() -> None:
    bank = MemoryBank()
    bank.add(*image(0))
    features, fractions = bank.gathered()
    assert len(features) == 9
    torch.testing.assert_close(features.norm(dim=1), torch.ones(9))
    torch.testing.assert_close(features[3], torch.tensor([1.0, 3.0]) / 10**0.5)
    torch.testing.assert_close(fractions, torch.tensor([[0.75, 0.25]] * 5 + [[1.0, 0.0]] * 4))


def test_the_subset_is_the_same_for_any_order_and_however_often_it_was_pruned() -> None:
    forward, backward, whole = MemoryBank(20, seed=1), MemoryBank(20, seed=1), MemoryBank(10**6, seed=1)
    for index in range(30):
        forward.add(*image(index))
        backward.add(*image(29 - index))
        whole.add(*image(index))
    features, fractions = forward.gathered()
    assert len(features) == 20 and len(whole.gathered()[0]) == 270
    torch.testing.assert_close(features, backward.gathered()[0], rtol=0, atol=0)
    torch.testing.assert_close(fractions, backward.gathered()[1], rtol=0, atol=0)
    assert {tuple(row) for row in features.tolist()} <= {tuple(row) for row in whole.gathered()[0].tolist()}


def test_the_subset_is_spread_over_images_and_depends_on_the_seed() -> None:
    kept = []
    for seed in (0, 1):
        bank = MemoryBank(90, seed)
        for index in range(30):
            bank.add(*image(index))
        kept.append(bank.gathered()[0])
        assert len(kept[-1]) == 90
        ratios = kept[-1][:, 1] / kept[-1][:, 0]
        assert len(ratios.unique()) > 30  # of 30 images × 9 patches
    assert not torch.equal(kept[0], kept[1])


def test_an_image_that_comes_again_counts_once() -> None:
    bank = MemoryBank(15)
    for _ in range(5):
        bank.add(*image(0))
    assert len(bank.gathered()[0]) == 9


def test_a_bank_finds_its_own_patches_again() -> None:
    torch.manual_seed(0)
    bank, features, labels = MemoryBank(), torch.randn(12, 8), torch.randint(3, (12,))
    bank.add(4, features, 5 * torch.nn.functional.one_hot(labels, 3).T.float().view(3, 3, 4))
    votes = DenseKNN(*bank.gathered(), neighbours=1).votes(2 * features)
    assert votes.argmax(1).tolist() == labels.tolist()


def test_a_bank_without_labels_is_refused() -> None:
    bank = MemoryBank()
    bank.add(0, torch.ones(4, 2), torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="memory bank: none of the patches of 1 images"):
        bank.gathered()
