"""Two kinds of images in one folder."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import silhouette_score

from src.backbones.backbone import Backbone
from src.commands.adapt.two_kinds import clusters, silhouette, two_kinds
from tests.tiny import TINY


def photos(dark: int, bright: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 40, (dark + bright, 3, 32, 32), generator=generator)
    return (noise + 200 * (torch.arange(dark + bright) >= dark)[:, None, None, None]).to(torch.uint8)


def test_silhouette_is_that_of_scikit_learn() -> None:
    points = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    labels = clusters(points)
    assert silhouette(points, labels) == pytest.approx(silhouette_score(points.numpy(), labels.numpy()), abs=1e-5)


@pytest.mark.parametrize(
    ("dark", "bright", "said"), [(12, 6, "about 67 % and 33 %"), (12, 0, None), (4, 2, None), (30, 1, None)]
)
def test_two_clear_clusters_of_some_size_are_named(dark: int, bright: int, said: str | None) -> None:
    torch.manual_seed(0)
    found = two_kinds(Backbone(TINY, "none"), photos(dark, bright))
    assert found is None if said is None else said in (found or "")
