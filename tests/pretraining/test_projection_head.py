"""The projection head: cosines with unit prototypes, and every size has an effect."""

import copy

import pytest
import torch

from src.pretraining.projection_head import ProjectionHead


def test_scores_are_cosines_with_unit_prototypes():
    head = ProjectionHead(6, prototypes=5, hidden=7, bottleneck=4)
    tokens = torch.randn(3, 2, 6)
    code = head.mlp(tokens)
    directions = head.prototypes.parametrizations.weight.original1
    cosines = torch.nn.functional.cosine_similarity(code[..., None, :], directions, dim=-1)
    assert torch.allclose(head(tokens), cosines, atol=1e-6)


def test_scores_are_float32_inside_autocast_and_the_head_can_be_copied():
    head = copy.deepcopy(ProjectionHead(6, prototypes=5, hidden=7, bottleneck=4))
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.randn(2, 6)).dtype == torch.float32


@pytest.mark.parametrize("change", [{"prototypes": 9}, {"hidden": 9}, {"bottleneck": 9}, {"layers": 2}])
def test_every_size_has_an_effect(change):
    base = {"width": 6, "prototypes": 5, "hidden": 7, "bottleneck": 4, "layers": 3}
    shapes = [[p.shape for p in ProjectionHead(**sizes).parameters()] for sizes in (base, base | change)]
    assert shapes[0] != shapes[1]


@pytest.mark.parametrize(("initialisation", "orthogonal"), [("normal", False), ("orthogonal", True)])
def test_the_mlp_starts_as_it_is_told(initialisation, orthogonal):
    weight = ProjectionHead(6, hidden=12, bottleneck=4, initialisation=initialisation).mlp[2].weight
    assert torch.allclose(weight @ weight.T, 2 * torch.eye(12), atol=1e-5) == orthogonal


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="at least 1 layer"):
        ProjectionHead(6, layers=0)
    with pytest.raises(ValueError, match=r"head\.prototypes: expected a finite number of at least 2, found 1"):
        ProjectionHead(6, prototypes=1)
