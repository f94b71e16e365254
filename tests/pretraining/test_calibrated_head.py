"""The calibrated head against its definition; what it refuses; every setting has an effect."""

import math

import pytest
import torch
from torch.nn import functional as F

from src.pretraining.calibrated_head import CalibratedHead

D, K = 6, 5


def calibrated(dtype: torch.dtype = torch.float32, **options) -> CalibratedHead:
    torch.manual_seed(0)
    mean, projection, prototypes = torch.randn(D), torch.randn(D, D), F.normalize(torch.randn(K, D), dim=-1)
    head = CalibratedHead(D, K, **{"hidden": 7, **options})
    head.calibrate(mean, projection, prototypes)
    return head.to(dtype)


def test_scores_are_cosines_of_whitened_tokens_plus_their_mlp_written_as_loops():
    head = calibrated(torch.float64)
    with torch.no_grad():
        for parameter in head.mlp.parameters():
            parameter.copy_(torch.randn_like(parameter))
    tokens = torch.randn(2, 3, D, dtype=torch.float64)
    scores = head(tokens)
    first, last = head.requires_grad_(False).mlp[0], head.mlp[2]
    for i in range(2):
        for j in range(3):
            centred = [float(tokens[i, j, d] - head.whitening.mean[d]) for d in range(D)]
            white = [sum(centred[d] * float(head.whitening.projection[d, e]) for d in range(D)) for e in range(D)]
            hidden = [
                sum(float(first.weight[h, e]) * white[e] for e in range(D)) + float(first.bias[h]) for h in range(7)
            ]
            hidden = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in hidden]
            code = [
                white[e] + sum(float(last.weight[e, h]) * hidden[h] for h in range(7)) + float(last.bias[e])
                for e in range(D)
            ]
            norm = math.sqrt(sum(x * x for x in code))
            for k in range(K):
                expected = sum(code[e] * float(head.prototypes.weight[k, e]) for e in range(D)) / norm
                assert scores[i, j, k].item() == pytest.approx(expected, abs=1e-5)


def test_at_the_start_the_mlp_is_the_identity_and_without_one_nothing_learns():
    tokens = torch.randn(4, D)
    assert torch.equal(calibrated()(tokens), calibrated(hidden=0)(tokens))
    assert not any(parameter.requires_grad for parameter in calibrated(hidden=0).parameters())


def test_only_the_mlp_learns_and_it_does_from_the_first_step():
    head = calibrated()
    head(torch.randn(4, D))[:, 0].sum().backward()
    assert {name for name, p in head.named_parameters() if p.requires_grad} == {
        "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"
    }  # fmt: skip
    assert head.mlp[2].weight.grad.abs().max() > 0


def test_before_it_is_calibrated_no_score_passes_for_one():
    head = CalibratedHead(D, K)
    assert not head.calibrated and head(torch.randn(2, D)).isnan().all()
    assert calibrated().calibrated


def test_statistics_and_prototypes_are_in_the_state_dict():
    head, other = calibrated(), CalibratedHead(D, K, hidden=7)
    other.load_state_dict(head.state_dict())
    tokens = torch.randn(3, D)
    assert other.calibrated and torch.equal(head(tokens), other(tokens))


def test_scores_are_float32_inside_autocast():
    head, tokens = calibrated(hidden=0), torch.randn(4, D)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(tokens), head(tokens).float()) and head(tokens).dtype == torch.float32
        assert calibrated()(tokens.bfloat16()).dtype == torch.float32


def test_a_published_head_is_refused():
    with pytest.raises(ValueError, match="set init_head false"):
        calibrated().load_published(calibrated().state_dict())


@pytest.mark.parametrize("options", [{"prototypes": 1}, {"hidden": -1}, {"epsilon": 0.0}], ids=str)
def test_sizes_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected at least 2, 0 or more, and above 0 or null"):
        CalibratedHead(D, **options)
