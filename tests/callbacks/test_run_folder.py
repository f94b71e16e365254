"""What a fit finds in its run folder is never lost."""

from __future__ import annotations

from pathlib import Path

from src.backbones.adapter_file import read_metadata
from src.callbacks.run_folder import config_hash
from src.cli import main as run
from tests.command_line import losses, pretraining, segmentation, written


def test_a_fresh_fit_keeps_the_files_of_the_one_before(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    contents = []
    for seed in ("0", "1", "2"):
        run(["fit", "--config", path, "--seed_everything", seed])
        contents.append((tmp_path / "run" / "metrics.csv").read_bytes())
    for number, content in enumerate(contents[:2], 1):
        kept = tmp_path / "run" / "earlier" / str(number)
        assert (kept / "metrics.csv").read_bytes() == content
        assert {file.name for file in kept.iterdir()} == {
            "config.yaml",
            "metrics.csv",
            "checkpoints",
            "adapter.safetensors",
            "explanations",
        }
    assert len(losses(tmp_path / "run")) == 2


def test_a_segmentation_draws_pictures_unasked_and_keeps_those_of_the_fit_before(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))
    drawn = []
    for seed in ("0", "1"):
        run(["fit", "--config", path, "--seed_everything", seed])
        (picture,) = (tmp_path / "run" / "pictures").iterdir()
        drawn.append(picture.read_bytes())
    assert (tmp_path / "run" / "earlier" / "1" / "pictures" / picture.name).read_bytes() == drawn[0] != drawn[1]


def test_a_resumed_fit_appends(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    run(["fit", "--config", path])
    before = (tmp_path / "run" / "metrics.csv").read_text()
    run(["fit", "--config", path, "--ckpt_path", "last", "--trainer.max_steps", "4"])
    assert (tmp_path / "run" / "metrics.csv").read_text().startswith(before)
    assert len(losses(tmp_path / "run")) == 4
    assert not (tmp_path / "run" / "earlier").exists()


def test_the_adapter_carries_the_hash_of_what_it_learnt_from(tmp_path: Path) -> None:
    hashes = []
    for name, changes in {"one": [], "two": [], "three": ["--seed_everything", "1"]}.items():
        path = written(tmp_path / f"{name}.yaml", pretraining(tmp_path / name))
        run(["fit", "--config", path, *changes])
        hashes.append(read_metadata(tmp_path / name / "adapter.safetensors")["config_hash"])
    assert hashes[0] == hashes[1] != hashes[2] and len(hashes[0]) == 16


def test_where_data_lies_is_no_part_of_the_hash_but_its_size_is() -> None:
    def of(**arguments: object) -> str:
        return config_hash({"model": {"class_path": "m"}, "data": {"class_path": "d", "init_args": arguments}})

    assert of(root="a", num_workers=1, size=224) == of(root="b", num_workers=2, size=224) != of(root="a", size=112)
