"""The model card: the Hub's metadata, how to load the adapter, and one verdict, the latest."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from src.backbones.adapters import LoRA
from src.backbones.backbone import Backbone
from src.callbacks.model_card import loading, metadata, verdict, with_verdict
from src.monitoring.guards import Guards, Kept
from src.pretraining import ContinualPretraining
from tests.tiny import TINY, tiny_head

FACTS = {
    "backbone": "vit_small_patch14_dinov2",
    "weights": "hub",
    "repository": "timm/vit_small_patch14_dinov2.lvd142m",
    "licence": "apache-2.0",
    "weight_hash": "abc",
    "adapter": "LoRA(rank=16): 98,304 of 404,544 parameters train",
}
TABLE = "| on a sample of the images | frozen | adapted |\n| --- | --- | --- |\n| rank | 53.9 | 53.7 |"
CARD = f"# Title\n\n## Did it help?\n\n**Stopped by a guard:** rank\n\n{TABLE}\n\nUnknown: not measured.\n"


def test_the_hub_knows_base_model_licence_and_task() -> None:
    found = yaml.safe_load(yaml.safe_dump(metadata(FACTS)))
    assert found["base_model"] == FACTS["repository"] and found["base_model_relation"] == "adapter"
    assert found["license"] == "apache-2.0" and found["pipeline_tag"] == "image-feature-extraction"
    assert "lora" in found["tags"]
    assert "base_model" not in metadata({**FACTS, "repository": ""})


def test_it_says_how_to_load_without_a_path_of_the_machine() -> None:
    assert 'weights="hub", adapter="adapter.safetensors"' in loading(FACTS)
    assert 'weights="PATH of the weights with the hash above"' in loading({**FACTS, "weights": ""})


def test_of_a_stopped_run_it_says_which_adapter_the_file_holds() -> None:
    guard = Guards()
    guard.stopped, guard.good = "stopped at step 8 of 10, harm: worse", Kept(5, 0.5)
    (line, _) = verdict(SimpleNamespace(callbacks=[guard])).split("\n\n")  # type: ignore[arg-type]
    assert line.startswith(
        "**Stopped by a guard:** stopped at step 8 of 10, harm: worse; saved adapter: step 5 (last good check); metrics"
    )


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_it_says_the_strength_at_which_the_adapter_is_saved(strength: float) -> None:
    model = ContinualPretraining(Backbone(TINY, "none"), LoRA(rank=2), tiny_head(), strength=strength)
    facts = model.adapter_facts()
    assert ("; saved at strength 0.5, measured at full strength" in facts["adapter"]) == (strength < 1)
    assert "lora" in metadata(facts)["tags"]


def test_a_verdict_takes_the_place_of_not_knowing_and_of_an_earlier_one() -> None:
    judged = with_verdict(CARD, "It helped.")
    assert judged == f"# Title\n\n## Did it help?\n\nIt helped.\n\n**Stopped by a guard:** rank\n\n{TABLE}\n"
    assert with_verdict(judged, "It did harm.") == judged.replace("It helped.", "It did harm.")
