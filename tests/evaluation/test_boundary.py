"""Boundary IoU against a plain search for near pixels outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluation.boundary import BoundaryPerImage, boundary, boundary_iou, boundary_width


def near_outside(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels of a bool mask with a pixel outside it, or outside the image, no further than `width` either way."""
    result = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        for v in range(y - width, y + width + 1):
            for u in range(x - width, x + width + 1):
                inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
                result[y, x] |= not (inside and mask[v, u])
    return result


def reference(predictions: list, truths: list, classes: int, ignore: int, share: float) -> np.ndarray:
    intersection, union = np.zeros(classes), np.zeros(classes)
    for prediction, truth in zip(predictions, truths, strict=True):
        width = max(1, round(share * (truth.shape[0] ** 2 + truth.shape[1] ** 2) ** 0.5))
        for c in range(classes):
            if c != ignore:
                predicted = near_outside((prediction == c) & (truth != ignore), width)
                true = near_outside(truth == c, width)
                intersection[c] += (predicted & true).sum()
                union[c] += (predicted | true).sum()
    with np.errstate(invalid="ignore"):
        return intersection / union


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_it_equals_the_plain_search(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    ignore, share = data.draw(st.sampled_from([255, -1, 1])), data.draw(st.sampled_from([0.001, 0.1, 0.3]))
    predictions, truths, counter = [], [], BoundaryPerImage(4, ignore, share)
    for index in range(data.draw(st.integers(1, 3))):
        shape = tuple(rng.integers(1, 5, size=2))
        grow = np.ones(tuple(rng.integers(1, 4, size=2)), dtype=np.int64)  # areas, not single pixels
        predictions.append(np.kron(rng.integers(3, size=shape), grow))
        truths.append(np.kron(rng.choice([0, 1, 2, ignore], size=shape), grow))
        counter.update(index, torch.from_numpy(predictions[-1]), torch.from_numpy(truths[-1]))
    expected = reference(predictions, truths, 4, ignore, share)
    np.testing.assert_allclose(boundary_iou(counter.gathered()).numpy(), expected, rtol=0, atol=1e-9)


def test_a_square_one_pixel_off_by_hand() -> None:
    truth, prediction = torch.zeros(2, 100, 100, dtype=torch.int64)
    truth[20:40, 20:40] = 1
    prediction[20:40, 21:41] = 1
    counter = BoundaryPerImage(2, 255, 0.02)
    assert boundary_width((100, 100), 0.02) == 3
    counter.update(0, prediction, truth)
    ring = 20**2 - 14**2  # of either square
    both = 2 * 3 * 19 + 2 * 2 * 14  # above and below it is 19 long, at either side 2 of 3 columns wide
    assert counter.gathered()[1].tolist() == [both, 2 * ring - both]


def test_a_mask_that_fills_the_image_ends_at_its_edge() -> None:
    assert boundary(np.ones((5, 5), np.uint8), 2).sum() == 24


def test_a_wide_boundary_is_the_whole_mask_and_gives_plain_iou() -> None:
    counter = BoundaryPerImage(2, 255, 1.0)
    counter.update(0, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 255]]))
    assert boundary_iou(counter.gathered()).tolist() == [1 / 2, 1 / 2]


def test_a_repeated_sample_counts_once_and_a_reset_forgets() -> None:
    counter = BoundaryPerImage(1, 255, 0.02)
    for _ in range(2):
        counter.update(7, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64))
    assert counter.gathered().tolist() == [[3, 3]]
    counter.reset()
    assert counter.gathered().tolist() == [[0, 0]] and boundary_iou(counter.gathered()).isnan().all()


@pytest.mark.parametrize(("size", "width"), [((360, 480), 12), ((1, 1), 1), ((1024, 2048), 46)])
def test_the_width_is_two_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert boundary_width(size, 0.02) == width


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="boundary: expected a finite number above 0 and at most 1"):
        BoundaryPerImage(2, 255, share)
