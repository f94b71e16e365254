"""The converged probe against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from src.evaluation.logistic_probe import LogisticProbe, fit_logistic_probe


def problem(patches: int = 400, width: int = 8, classes: int = 3, images: int = 20, seed: int = 0):
    """Correlated features of unequal scale and soft labels that depend on them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(patches, width)) @ rng.normal(size=(width, width)) * np.geomspace(0.01, 50, width)
    standard = (features - features.mean(0)) / features.std(0)
    logits = standard @ rng.normal(size=(width, classes)) * 2 + rng.normal(size=(patches, classes))
    targets = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return torch.from_numpy(features + 3), torch.from_numpy(targets), torch.arange(patches) % images


def reference(features: torch.Tensor, targets: torch.Tensor, penalty: float) -> np.ndarray:
    """Probabilities of scikit-learn, each patch repeated once per class and weighted by its share of it."""
    x, y = features.numpy(), targets.numpy()
    x = (x - x.mean(0)) / x.std(0)
    classes = y.shape[1]
    model = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000)
    model.fit(np.repeat(x, classes, axis=0), np.tile(np.arange(classes), len(x)), sample_weight=y.flatten())
    return model.predict_proba(x)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-6)])
def test_it_equals_scikit_learn_on_soft_labels(penalty: float, dtype: torch.dtype, tolerance: float) -> None:
    features, targets, images = problem()
    probe = fit_logistic_probe(features.to(dtype), targets, images, [penalty], tolerance=tolerance)
    found = probe.logits(features.to(dtype)).softmax(1).double().numpy()
    np.testing.assert_allclose(found, reference(features, targets, penalty), rtol=0, atol=2e-4)
    assert probe.converged and probe.gradient <= tolerance and probe.penalty == penalty


def test_the_penalty_is_the_best_one_on_held_back_images() -> None:
    features, targets, images = problem(patches=60, width=40, classes=4, images=10)  # weak penalties overfit
    penalties = [10.0, 0.1, 1e-3, 1e-6]
    probe = fit_logistic_probe(features, targets, images, penalties)
    assert list(probe.held_back) == penalties[: len(probe.held_back)]  # from strong to weak until it rises
    assert probe.penalty == min(probe.held_back, key=lambda penalty: probe.held_back[penalty])
    assert probe.penalty not in (10.0, 1e-6)
    assert list(probe.held_back.values())[-1] > min(probe.held_back.values())
    alone = fit_logistic_probe(features, targets, images, [probe.penalty])
    torch.testing.assert_close(probe.weight, alone.weight, rtol=0, atol=1e-3)  # another way to the same minimum


def test_whole_images_are_held_back() -> None:
    # Each image has a feature of its own that gives its class away: only other images show that it says nothing.
    images = torch.arange(10).repeat_interleave(30)
    rng = np.random.default_rng(0)
    targets = torch.nn.functional.one_hot(torch.from_numpy(rng.integers(2, size=10))[images], 2).double()
    features = torch.nn.functional.one_hot(images, 10).double() + 0.01 * torch.from_numpy(rng.normal(size=(300, 10)))
    probe = fit_logistic_probe(features, targets, images, [1e3, 1e-6])
    assert probe.penalty == 1e3


def test_it_is_the_same_again_and_for_any_order_of_the_patches() -> None:
    features, targets, images = problem()
    first, again = (fit_logistic_probe(features, targets, images) for _ in range(2))
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    shuffled = fit_logistic_probe(features[order], targets[order], images[order], tolerance=1e-7)
    exact = fit_logistic_probe(features, targets, images, tolerance=1e-7)
    torch.testing.assert_close(shuffled.weight, exact.weight, rtol=0, atol=1e-5)


def test_features_that_do_not_vary_and_classes_that_are_absent_are_borne() -> None:
    features, targets, images = problem()
    padded = torch.cat((features, torch.full_like(features[:, :1], 7.3)), dim=1)
    with_absent = torch.cat((targets, torch.zeros_like(targets[:, :1])), dim=1)
    probe = fit_logistic_probe(padded.float(), with_absent, images)
    assert probe.converged and bool(probe.weight.isfinite().all())
    shares = probe.logits(padded).softmax(1)
    assert shares[:, -1].max() < 1e-3
    plain = fit_logistic_probe(features.float(), targets, images)
    torch.testing.assert_close(shares[:, :-1], plain.logits(features).softmax(1), rtol=0, atol=2e-3)


def test_maps_are_scored_patch_by_patch() -> None:
    features, targets, images = problem()
    probe = fit_logistic_probe(features, targets, images)
    maps = features[:24].view(2, 3, 4, 8).movedim(-1, 1)
    torch.testing.assert_close(probe.map(maps).movedim(1, -1).reshape(24, 3), probe.logits(features[:24]))


def test_mixed_precision_does_not_reach_its_logits() -> None:
    features, targets, images = problem()
    probe = fit_logistic_probe(features.float(), targets, images)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = probe.logits(features.float())
    assert torch.equal(mixed, probe.logits(features.float()))


def test_a_fit_that_was_cut_short_says_so() -> None:
    features, targets, images = problem()
    probe: LogisticProbe = fit_logistic_probe(features, targets, images, [1e-4], max_iterations=2)
    assert not probe.converged and probe.iterations == 2 and probe.gradient > 1e-4


def test_what_cannot_be_fitted_is_refused() -> None:
    features, targets, images = problem(patches=10)
    with pytest.raises(ValueError, match="at least 2 labelled training images"):
        fit_logistic_probe(features, targets, torch.zeros_like(images))
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_logistic_probe(features[:0], targets[:0], images[:0])
    with pytest.raises(ValueError, match=r"found \[10, 8\], \[9, 3\]"):
        fit_logistic_probe(features, targets[:9], images)
    with pytest.raises(ValueError, match="penalties above 0"):
        fit_logistic_probe(features, targets, images, [0.0])
    with pytest.raises(ValueError, match="finite features"):
        fit_logistic_probe(features * torch.nan, targets, images)
