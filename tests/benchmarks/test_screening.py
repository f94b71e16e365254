"""The screening compares settings with the preset as it is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.yaml_reader import read
from tests.tiny import tiny_backbone

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_setting_called_the_preset_is_the_calibrated_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    from screening_settings import BASE, PRESET, SETTINGS, model  # type: ignore[import-not-found]

    module = model(BASE | SETTINGS[PRESET], tiny_backbone(monkeypatch), 0)
    preset = read(ROOT / "experiments/methods/glare-calibrated.yaml")["model"]["init_args"]
    weights = {name: value["init_args"]["weight"] for name, value in preset["objectives"].items()}
    assert {name: objective.weight for name, objective in module.objectives.items()} == {
        name: weight for name, weight in weights.items() if weight
    }
    local, stated = module.objectives["local"], preset["objectives"]["local"]["init_args"]
    assert (local.same_view, local.between_views) == (stated.get("same_view", 0.5), stated.get("between_views", 0.5))
    for name, objective in preset["objectives"].items():
        targets = objective["init_args"].get("targets")
        assert name not in module.objectives or type(module.objectives[name].targets).__name__ in targets["class_path"]
    found, stated = module.student.head, preset["head"]["init_args"]
    assert found.mlp[0].out_features == stated["hidden"] and found.epsilon == stated["epsilon"]
    assert len(found.prototypes.weight) == stated["prototypes"] and found.centroids == stated["centroids"]
    assert module.strength == preset.get("strength", 1.0)
    assert module.optimisation.lr == preset["optimisation"]["lr"]
    assert list(module.optimisation.teacher_temperature) == preset["optimisation"]["teacher_temperature"]


@pytest.mark.parametrize(("name", "images", "held"), [("camvid", 367, 74), ("cwfid", 40, 20), ("shapes", 144, 64)])
def test_images_that_score_a_setting_are_not_those_it_adapts_to(name: str, images: int, held: int) -> None:
    from screening_domains import held_back  # type: ignore[import-not-found]

    found = held_back(name, images)
    assert len(set(found)) == held and set(found) < set(range(images))


def test_a_setting_is_ranked_by_the_mean_and_the_worst_domain() -> None:
    from screening import score  # type: ignore[import-not-found]

    def cell(domain: str, setting: str, linear: float, knn: float, stage: str = "screening") -> dict[str, object]:
        change = {"miou": [linear, 0, 0], "whitened_knn": [knn, 0, 0]}
        return {"stage": stage, "domain": domain, "setting": setting, "change": change}

    cells = [cell("a", "x", 1, 3), cell("b", "x", -1, 1), cell("a", "y", 9, 9), cell("c", "x", 8, 8)]
    cells += [cell("b", "x", 9, 9, "final"), {"failed": ["screening", "a", "z", 0], "error": "…"}]
    assert score(cells, "x", ["a", "b"]) == {"setting": "x", "mean": 1.0, "worst": 0.0, "score": 1.0}
    assert score(cells, "y", ["a", "b"]) is None  # not run on b
