"""Scores against a plain numpy reference, and images that count once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluation.confusion import ConfusionPerImage, ImageConfusions, iou_from_confusion, scores_from_confusion


def reference(predictions: list[np.ndarray], truths: list[np.ndarray], classes: int, ignore: int) -> tuple:
    """IoU, mIoU, accuracy, class accuracy and Dice from sets of pixels, class by class."""
    prediction, truth = (np.concatenate([array.ravel() for array in arrays]) for arrays in (predictions, truths))
    prediction, truth = prediction[truth != ignore], truth[truth != ignore]
    iou, recall, dice = (np.full(classes, np.nan) for _ in range(3))
    for c in range(classes):
        both, either = np.sum((prediction == c) & (truth == c)), np.sum((prediction == c) | (truth == c))
        if either:
            iou[c] = both / either
            dice[c] = 2 * both / (np.sum(truth == c) + np.sum(prediction == c))
        if np.any(truth == c):
            recall[c] = both / np.sum(truth == c)
    present = ~np.isnan(iou)
    return iou, iou[present].mean() if present.any() else np.nan, np.mean(prediction == truth), recall, dice


def check_against_reference(predictions: list[np.ndarray], truths: list[np.ndarray], classes: int, ignore: int) -> None:
    counter = ConfusionPerImage(classes, ignore)
    for index, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        counter.update(index, f"{index}.png", torch.from_numpy(prediction), torch.from_numpy(truth))
    gathered = counter.gathered()
    assert gathered.matrices.dtype == torch.int64 and len(gathered.names) == len(truths)
    scores = scores_from_confusion(gathered.matrices.sum(0))
    iou, miou, accuracy, recall, dice = reference(predictions, truths, classes, ignore)
    np.testing.assert_allclose(scores.iou.numpy(), iou, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.miou, miou, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.accuracy, accuracy, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.class_accuracy.numpy(), recall, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.mean_accuracy, recall[~np.isnan(recall)].mean(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.dice.numpy(), dice, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.mean_dice, dice[~np.isnan(dice)].mean(), rtol=0, atol=1e-9)
    assert scores.absent == np.flatnonzero(np.isnan(iou)).tolist()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_scores_equal_the_numpy_reference(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 7))
    ignore = data.draw(st.sampled_from([255, -1, 0, classes - 1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    held = rng.choice(classes, size=data.draw(st.integers(1, classes)), replace=False)  # some classes never occur
    predictions, truths = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        shape = tuple(rng.integers(1, 9, size=2))
        predictions.append(rng.choice(held, size=shape))
        truths.append(rng.choice([*held, ignore], size=shape))
    truths[0].flat[0] = next((c for c in held if c != ignore), (ignore + 1) % classes)  # at least one label
    check_against_reference(predictions, truths, classes, ignore)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ([[0, 0]], [[0, 0]]),  # one class, all right
        ([[0, 1]], [[1, 0]]),  # all wrong
        ([[2, 2]], [[0, 255]]),  # a class predicted only, a class missed entirely
        ([[1, 1]], [[255, 1]]),  # predictions on ignored pixels count nowhere
    ],
)
def test_corner_cases_equal_the_numpy_reference(prediction: list, truth: list) -> None:
    check_against_reference([np.array(prediction)], [np.array(truth)], 4, 255)


def test_counts_are_exact_where_float32_is_not() -> None:
    confusion = torch.tensor([[2**25 + 1, 1], [0, 2**25]])
    assert scores_from_confusion(confusion).iou[0].item() == (2**25 + 1) / (2**25 + 2)


def test_the_mean_is_over_the_whole_set_not_over_images() -> None:
    matrices = torch.tensor([[[99, 0], [1, 0]], [[0, 0], [0, 1]]])
    scores = scores_from_confusion(matrices.sum(0))
    assert scores.iou.tolist() == pytest.approx([99 / 100, 1 / 2])
    torch.testing.assert_close(
        iou_from_confusion(matrices), torch.tensor([[0.99, 0.0], [torch.nan, 1.0]], dtype=torch.float64), equal_nan=True
    )


def test_a_repeated_sample_counts_once() -> None:
    counter = ConfusionPerImage(2, 255)
    for index in (3, 1, 3):  # a sampler that pads repeats
        counter.update(index, f"{index}.png", torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[0, 1, 1, 255]]))
    gathered = counter.gathered()
    assert gathered.names == ["1.png", "3.png"]
    assert gathered.matrices.tolist() == [[[1, 0], [2, 0]]] * 2


def test_an_id_outside_the_classes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"street\.png: the mask holds id 7; expected classes 0 to 2"):
        ConfusionPerImage(3, 255).update(0, "street.png", torch.zeros(1, 2).long(), torch.tensor([[0, 7]]))


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    counter = ConfusionPerImage(2, 255)
    counter.update(0, "straße.png", torch.tensor([[0, 1]]), torch.tensor([[1, 1]]))
    counter.gathered().save(tmp_path / "run" / "confusion.npz")
    loaded = ImageConfusions.load(tmp_path / "run" / "confusion.npz")
    assert loaded.names == ["straße.png"] and loaded.matrices.tolist() == [[[0, 0], [1, 1]]]
    assert np.load(tmp_path / "run" / "confusion.npz")["matrices"].dtype == np.int64
