"""Label counts by cell against a loop over pixels."""

import pytest
import torch
from torch.nn import functional as F

from src.evaluation.patch_labels import label_counts, patch_fractions


@pytest.mark.parametrize(("size", "grid"), [((6, 8), (3, 2)), ((7, 5), (3, 4)), ((4, 4), (4, 4)), ((3, 5), (6, 5))])
def test_counts_equal_a_loop_over_pixel_centres(size: tuple[int, int], grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 4, (2, *size))
    masks[masks == 3] = 255
    expected = torch.zeros(2, 3, *grid)
    for b in range(2):
        for y in range(size[0]):
            for x in range(size[1]):
                if masks[b, y, x] != 255:
                    row, column = int((y + 0.5) / size[0] * grid[0]), int((x + 0.5) / size[1] * grid[1])
                    expected[b, masks[b, y, x], row, column] += 1
    assert torch.equal(label_counts(masks, grid, 3, 255), expected)


def test_the_counts_weigh_cell_logits_as_nearest_upsampling_does() -> None:
    torch.manual_seed(0)
    masks, logits = torch.randint(0, 4, (2, 9, 7)), torch.randn(2, 4, 4, 3, dtype=torch.float64)
    masks[0, :2] = 9
    pixels = F.cross_entropy(F.interpolate(logits, (9, 7), mode="nearest-exact"), masks, ignore_index=9)
    counts = label_counts(masks, (4, 3), 4, 9).double()
    torch.testing.assert_close(-(counts * logits.log_softmax(1)).sum() / counts.sum(), pixels)


def test_fractions_leave_the_ignored_out() -> None:
    masks = torch.tensor([[[0, 0, 5, 5], [1, 5, 5, 5]]])
    fractions, labelled = patch_fractions(label_counts(masks, (1, 2), 2, 5))
    torch.testing.assert_close(fractions, torch.tensor([[[2 / 3, 1 / 3], [0.0, 0.0]]]))
    assert labelled.tolist() == [[True, False]]


def test_ids_outside_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="outside the classes 0 to 1"):
        label_counts(torch.tensor([[[0, 2]]]), (1, 1), 2, 255)
