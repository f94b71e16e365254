"""Settings that `adapt` chooses."""

from __future__ import annotations

import numpy as np
import pytest

from src.commands.adapt.images import used_side
from src.commands.adapt.request import base
from src.commands.adapt.settings import METHODS, choose, multiple
from src.config.composition import lookup
from src.config.yaml_reader import read

VIT = "vit_small_patch14_dinov2"


def test_a_cpu_gets_the_small_run_preset() -> None:
    found = choose(400, gpu=False, backbone=VIT, method="glare")
    assert (found.steps, found.batch, found.side, found.prototypes, found.lr) == (440, 8, 168, 1024, 1e-3)
    assert choose(30_000, gpu=False, backbone=VIT, method="glare") == found


@pytest.mark.parametrize(("images", "seen_once"), [(1, 150), (240, 150), (4_800, 300), (30_000, 1_000)], ids=str)
@pytest.mark.parametrize("gpu", [False, True])
def test_the_calibrated_preset_is_the_default_and_a_gpu_sees_every_image(
    images: int, seen_once: int, gpu: bool
) -> None:
    found = choose(images, gpu, VIT)
    assert (found.method, found.steps, found.lr) == ("glare-calibrated", seen_once if gpu else 150, 1e-3)
    assert (found.side, found.batch) == ((224, min(16, images)) if gpu else (168, min(8, images)))
    assert found.prototypes == min(256, 64 * images)


@pytest.mark.parametrize(
    ("used", "scale"), [(518.0, (0.0467, 0.187)), (168.0, (0.4444, 1.0)), (60.0, (1.0, 1.0)), (None, None)], ids=str
)
def test_views_show_things_as_large_as_the_images_in_use(used: float | None, scale: tuple[float, float] | None) -> None:
    found = choose(60, False, VIT, used=used)
    assert found.scale == scale
    assert found.changes().get("data.init_args.global_crops_scale") == (None if scale is None else list(scale))
    assert choose(60, False, VIT, method="glare", used=used).scale is None  # the paper's method keeps its own views


def test_the_side_in_use_is_that_of_the_median_image() -> None:
    images = [np.zeros((height, width, 3), np.uint8) for height, width in ((280, 280), (280, 280), (3000, 4000))]
    assert used_side(images, 14) == 280
    assert used_side(images[2:], 14) == pytest.approx(518, rel=0.02)


def test_a_processor_with_bfloat16_uses_it() -> None:
    flags = "flags : fpu sse2 avx512f avx512_bf16 amx_tile"
    assert choose(400, gpu=False, backbone=VIT, cpu_flags=flags).precision == "bf16-mixed"
    assert choose(400, gpu=False, backbone=VIT, cpu_flags="flags : fpu avx512f").precision == "32-true"


def test_a_few_images_are_not_shown_too_often() -> None:
    few = choose(30, gpu=False, backbone=VIT, method="glare")
    assert few.steps == 150
    assert choose(5, gpu=False, backbone=VIT, method="glare").batch == 5


def test_a_gpu_sees_every_image_about_a_hundred_times_within_bounds() -> None:
    assert choose(30, gpu=True, backbone=VIT, method="glare").steps == 400
    middle = choose(3_000, gpu=True, backbone=VIT, method="glare")
    assert middle.steps * middle.batch / 3_000 == pytest.approx(100, rel=0.02)
    large = choose(30_000, gpu=True, backbone=VIT, method="glare")
    assert (large.steps, large.prototypes, large.precision) == (20_000, 8192, "bf16-mixed")
    steps = [
        choose(count, gpu=True, backbone=VIT, method="glare").steps for count in (1, 10, 100, 1_000, 10_000, 100_000)
    ]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("side", "patch", "expected"), [(112, 14, 112), (112, 16, 112), (112, 32, 128), (224, 14, 224), (16, 32, 64)]
)
def test_views_are_whole_patches(side: int, patch: int, expected: int) -> None:
    assert multiple(side, patch) == expected


def test_every_key_that_is_set_exists_in_the_yaml_or_has_a_meaning() -> None:
    for method in METHODS:
        config = read(base(method))
        for key in choose(100, gpu=False, backbone=VIT, method=method).changes():
            assert lookup(config, key.rpartition(".")[0]) is not None, key


def test_the_sentence_says_it_all() -> None:
    text = choose(100, gpu=False, backbone=VIT, method="glare").sentence(100, "the CPU")
    assert text == (
        "chosen for 100 images on the CPU: pure GLARE, 250 steps of 8 images (20.0 epochs), views of 168 px, "
        "1024 prototypes, learning rate 0.001, 32-true"
    )
    assert "the CPU: the calibrated preset, 150 steps" in choose(100, gpu=False, backbone=VIT).sentence(100, "the CPU")
