"""The closed-form probe against scikit-learn's ridge regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from src.evaluation.linear_probe import RidgeProbe


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_the_probe_equals_ridge_regression(penalty: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 12)) * rng.uniform(0.1, 10, size=12) + rng.normal(size=12) * 5
    targets = rng.dirichlet(np.ones(4), size=300)  # soft patch labels
    ridge = Ridge(alpha=penalty).fit(features, targets)
    probe = RidgeProbe(12, 4, penalty)
    for part in np.array_split(np.arange(300), 7):
        probe.update(torch.from_numpy(features[part]), torch.from_numpy(targets[part]))
    weight, bias = probe.solve()
    np.testing.assert_allclose(weight.numpy(), ridge.coef_.T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), ridge.intercept_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        probe.predict(torch.from_numpy(features)).numpy(), ridge.predict(features), rtol=0, atol=1e-6
    )


def test_more_patches_after_solving_change_the_answer() -> None:
    probe = RidgeProbe(1, 1, 1e-9)
    probe.update(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
    assert probe.predict(torch.tensor([[2.0]])).item() == pytest.approx(2.0, abs=1e-6)
    probe.update(torch.tensor([[2.0]]), torch.tensor([[5.0]]))  # least squares of (0,0), (1,1), (2,5): 2.5 x − 0.5
    assert probe.predict(torch.tensor([[2.0]])).item() == pytest.approx(4.5, abs=1e-6)


def test_nothing_to_solve_and_a_bad_penalty_are_refused() -> None:
    with pytest.raises(ValueError, match="no labelled patch"):
        RidgeProbe(2, 2).solve()
    with pytest.raises(ValueError, match="penalty 0"):
        RidgeProbe(2, 2, 0)
