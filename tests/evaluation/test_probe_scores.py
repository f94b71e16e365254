"""A probe's four numbers, from features and masks to statistics, against what each is made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.evaluation.average_precision import average_precision
from src.evaluation.confusion import scores_from_confusion
from src.evaluation.logistic_probe import LogisticProbe, fit_logistic_probe
from src.evaluation.matched_frequencies import MatchedBiases, match_frequencies
from src.evaluation.patch_labels import label_counts, patch_fractions
from src.evaluation.probe_scores import ProbeEvaluation, ProbeScores

IGNORE = 255


def scenes(count: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks `[N, 16, 24]` of blobs with some ignored pixels, and noisy features `[N, 5, 4, 6]` that follow them."""
    generator = torch.Generator().manual_seed(seed)
    fields = F.interpolate(torch.rand(count, 3, 4, 6, generator=generator), size=(16, 24), mode="bilinear")
    masks = (fields + torch.tensor([0.2, 0.0, -0.1])[:, None, None]).argmax(1)
    masks[:, :2, :5] = IGNORE
    shares = label_counts(masks, (4, 6), 3, IGNORE) / 16
    noise = torch.randn(count, 5, 4, 6, generator=generator)
    return masks, torch.cat((shares, shares[:, :2]), dim=1) + 0.4 * noise


@pytest.fixture
def fitted() -> tuple[LogisticProbe, MatchedBiases]:
    masks, features = scenes(seed=1)
    shares, labelled = patch_fractions(label_counts(masks, (4, 6), 3, IGNORE))
    owners = torch.arange(6)[:, None].expand(6, 24)[labelled]
    patches = features.flatten(2).transpose(1, 2)[labelled]
    probe = fit_logistic_probe(patches, shares[labelled], owners)
    return probe, match_frequencies(probe.logits(patches), shares[labelled])


def evaluated(fitted: tuple[LogisticProbe, MatchedBiases], order: list[int], max_patches: int = 2**18) -> ProbeScores:
    masks, features = scenes()
    evaluation = ProbeEvaluation(*fitted, 3, IGNORE, max_patches)
    for index in order:
        evaluation.update(10 * index, f"image {index}", features[index], masks[index])
    return evaluation.gathered()


def test_each_number_is_that_of_its_definition(fitted: tuple[LogisticProbe, MatchedBiases]) -> None:
    masks, features = scenes()
    probe, matched = fitted
    statistics = evaluated(fitted, list(range(6))).statistics()
    logits = probe.map(features)
    upsampled = F.interpolate(logits, size=(16, 24), mode="bilinear", align_corners=False)
    for name, scores in (("miou", upsampled), ("matched_miou", upsampled + matched.biases[:, None, None])):
        kept = masks != IGNORE
        cells = masks[kept] * 3 + scores.argmax(1)[kept]
        miou = scores_from_confusion(cells.bincount(minlength=9).view(3, 3)).miou
        assert statistics[name].value() == pytest.approx(100 * miou)
    shares, labelled = patch_fractions(label_counts(masks, (4, 6), 3, IGNORE))
    logs = logits.flatten(2).transpose(1, 2).log_softmax(-1)[labelled]
    loss = -(logs * shares[labelled]).sum(1).mean()
    assert statistics["cross_entropy"].value() == pytest.approx(float(loss), rel=1e-5)
    expected = 100 * float(average_precision(logs, shares[labelled]).mean())
    assert statistics["average_precision"].value() == pytest.approx(expected, rel=1e-6)
    assert {statistic.images for statistic in statistics.values()} == {6}


def test_order_and_repetition_change_nothing_and_files_keep_everything(
    fitted: tuple[LogisticProbe, MatchedBiases], tmp_path: Path
) -> None:
    first = evaluated(fitted, list(range(6)))
    again = evaluated(fitted, [3, 0, 5, 1, 1, 4, 2, 3])
    first.save(tmp_path / "deep" / "probe.npz")
    for other in (again, ProbeScores.load(tmp_path / "deep" / "probe.npz")):
        assert other.names == first.names == [f"image {index}" for index in range(6)]
        assert all(torch.equal(one, two) for one, two in zip(first[1:], other[1:], strict=True))
    weights = np.eye(6, dtype=np.int64)[[2]] * 6
    masks, features = scenes()
    alone = ProbeEvaluation(*fitted, 3, IGNORE)
    alone.update(2, "image 2", features[2], masks[2])
    for name, statistic in alone.gathered().statistics().items():
        assert first.statistics()[name].resampled(weights)[0] == pytest.approx(statistic.value(), abs=0.5)


def test_patches_are_bounded_and_pixels_are_not(fitted: tuple[LogisticProbe, MatchedBiases]) -> None:
    whole, some = evaluated(fitted, list(range(6))), evaluated(fitted, list(range(6)), max_patches=50)
    assert len(some.logs) == len(some.shares) == len(some.owners) == 50 < len(whole.logs)
    assert torch.equal(some.matrices, whole.matrices)


def test_masks_without_a_label_are_refused(fitted: tuple[LogisticProbe, MatchedBiases]) -> None:
    evaluation = ProbeEvaluation(*fitted, 3, IGNORE)
    evaluation.update(0, "blank", torch.zeros(5, 4, 6), torch.full((16, 24), IGNORE))
    with pytest.raises(ValueError, match="none of the patches of 1 images has a label"):
        evaluation.gathered()
    with pytest.raises(ValueError, match="the mask holds id 7"):
        evaluation.update(1, "wrong", torch.zeros(5, 4, 6), torch.full((16, 24), 7))
