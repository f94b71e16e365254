"""A teacher that makes targets only where a scored patch meets them: the same loss, or another by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from src.pretraining import consistency
from src.pretraining.consistency import LocalConsistency
from src.pretraining.patch_subset import met_rows
from src.pretraining.targets import Centring, SinkhornKnopp, Targets, Uncentred
from tests.pretraining.test_cross_entropy import B, D, K, N, V, direct_local, setting

FEW = 2  # patches a view: 10 of 16 may be met
kinds = pytest.mark.parametrize("kind", [Centring, SinkhornKnopp, Uncentred])


def built(kind: type[Targets], **options: Any) -> LocalConsistency:
    objective = LocalConsistency(targets=kind(), patches=FEW, **options)
    objective.build(K, D)
    return objective.double()


def seen_by(objective: LocalConsistency, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Tokens that the teacher's head sees, and rows of targets that it makes, of the next loss."""
    counts = {"tokens": 0, "targets": 0}
    student, teacher, batch, random = setting()
    code, blocks = teacher.head.code, objective.targets.blocks

    def counted_code(tokens: Tensor) -> Tensor:
        counts["tokens"] += tokens[..., 0].numel()
        return code(tokens)

    def counted_blocks(*inputs: Any) -> Any:
        for rows, distributions in blocks(*inputs):
            counts["targets"] += len(distributions)
            yield rows, distributions

    monkeypatch.setattr(teacher.head, "code", counted_code)
    monkeypatch.setattr(objective.targets, "blocks", counted_blocks)
    objective(student, teacher, batch, random, describe=False)
    return counts


@kinds
@pytest.mark.parametrize("options", [{}, {"distorted_only": True}, {"between_views": 0.0}, {"same_view": 0.0}], ids=str)
def test_loss_gradients_and_state_are_those_of_all_targets(kind: type[Targets], options: dict[str, Any]) -> None:
    student, teacher, batch, random = setting()
    objective = built(kind, **options)
    other = copy.deepcopy(objective)
    parameters = [p for p in student.head.parameters() if p.requires_grad] + [student.features.patches]
    for _ in range(2):  # the second time a centre is no longer zero
        loss = objective(student, teacher, batch, random, describe=False).loss
        if options.get("same_view", 1) and options.get("between_views", 1):
            expected = direct_local(other, student, teacher, batch, random)[0]
        else:
            expected = other(student, teacher, batch, random, describe=True).loss
        pairs = zip(*(torch.autograd.grad(value, parameters) for value in (loss, expected)), strict=True)
        assert abs(loss - expected) <= 1e-13 * abs(expected)
        assert all((one - reference).norm() <= 1e-13 * reference.norm() for one, reference in pairs)
        for one, reference in zip(objective.buffers(), other.buffers(), strict=True):
            assert torch.allclose(one, reference, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(
    ("kind", "options", "tokens", "targets"),
    [
        (Centring, {}, N, 10),
        (SinkhornKnopp, {}, N, 10),
        (Uncentred, {}, 10, 10),
        (Uncentred, {"between_views": 0.0}, FEW, FEW),
        (Centring, {"targets_from": "met"}, 10, 10),
        (SinkhornKnopp, {"targets_from": "met"}, 10, 10),
    ],
)
def test_the_teacher_is_spared_what_nothing_meets(
    kind: type[Targets], options: dict[str, Any], tokens: int, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen_by(built(kind, **options), monkeypatch) == {"tokens": V * B * tokens, "targets": V * B * targets}


@kinds
def test_targets_from_what_is_met_are_those_of_a_batch_of_these_patches(
    kind: type[Targets], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Tensor] = []

    def remembered(pulls: Tensor, most: int) -> Tensor | None:
        found = met_rows(pulls, most)
        assert found is not None
        chosen.append(found)
        return found

    monkeypatch.setattr(consistency, "met_rows", remembered)
    student, teacher, batch, random = setting()
    loss = built(kind, targets_from="met")(student, teacher, batch, random, describe=False).loss

    class OfThese(kind):  # type: ignore[misc, valid-type]
        """Targets of the chosen rows as if there were no others; the rest, which weighs nothing, is uniform."""

        def distributions(self, scores: Tensor, temperature: float) -> Tensor:
            rows = scores.flatten(0, -2)
            result = torch.full_like(rows, 1 / K)
            result[chosen[0]] = super().distributions(rows[chosen[0]], temperature)
            return result.view_as(scores)

    expected = direct_local(built(OfThese), student, teacher, batch, random)[0]
    assert abs(loss - expected) <= 1e-12 * abs(expected)
    whole = built(kind)(student, teacher, batch, random, describe=False).loss
    differ = abs(loss - whole) > 1e-6 * abs(whole)
    assert bool(differ) == (kind is SinkhornKnopp)  # a centre is zero in the first step, and moves after it


def test_rows_that_are_met_are_all_given() -> None:
    pulls = torch.zeros(V, B, N, 3)
    pulls[1, 2, 5], pulls[0, 0, 0], pulls[0, 0, 15] = 1.0, -1.0, 1.0
    found = met_rows(pulls, 2)
    assert found is not None and len(found) == len(set(found.tolist())) == V * B * 2
    assert {0, 15, (1 * B + 2) * N + 5} <= set(found.tolist())
    assert met_rows(pulls, N) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patches": 0}, "patches: expected at least 1"),
        ({"same_view": 0, "between_views": 0}, "one above 0"),
        ({"targets_from": "met"}, "give their number"),
    ],
)
def test_a_loss_of_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalConsistency(**options)
