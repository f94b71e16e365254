"""A fit never loses what it finds in its run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.__main__ import main
from src.backbones.adapter_file import read_metadata
from src.cli import main as run
from src.config.composition import override
from src.config.hashing import config_hash
from src.config.yaml_reader import read
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
            "README.md",
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


def test_a_resume_says_what_it_changes_and_one_that_is_refused_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder, path = tmp_path / "run", written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))
    assert main(["fit", "--config", path]) == 0
    before = (run_folder / "config.yaml").read_bytes()
    resume = ["fit", "--config", str(run_folder / "config.yaml"), "--ckpt_path", "last", "--trainer.max_steps", "4"]
    decoder = "--model.init_args.decoder.init_args"
    assert main([*resume, f"{decoder}.batch_norm", "true"]) == 1
    assert (run_folder / "config.yaml").read_bytes() == before
    with pytest.warns(UserWarning, match=r"resumed with other settings .*model.init_args.lr: 0.001 → 0.5"):
        assert main([*resume, "--model.init_args.lr", "0.5"]) == 0
    assert read(run_folder / "config.yaml")["model"]["init_args"]["lr"] == 0.5


def test_a_fresh_fit_leaves_no_score_of_the_one_before(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))
    run(["fit", "--config", path])
    score = (tmp_path / "run" / "evaluation.json").read_bytes()
    run(["fit", "--config", path, "--trainer.limit_val_batches", "0"])
    assert (tmp_path / "run" / "earlier" / "1" / "evaluation.json").read_bytes() == score
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_the_adapter_carries_the_hash_of_what_it_learnt_from(tmp_path: Path) -> None:
    hashes = []
    lr = "--model.init_args.optimisation.lr"
    for name, changes in {"one": [], "two": ["--seed_everything", "1"], "three": [f"{lr}=1"]}.items():
        config = pretraining(tmp_path / name)
        run(["fit", "--config", written(tmp_path / f"{name}.yaml", config), *changes])
        hashes.append(read_metadata(tmp_path / name / "adapter.safetensors")["config_hash"])
        written_by_the_run = tmp_path / name / "config.yaml"
        assert written_by_the_run.read_text().startswith(f"# config_hash: {hashes[-1]}\n")
        assert config_hash(read(written_by_the_run)) == hashes[-1]
    assert hashes[0] == hashes[1] != hashes[2] and len(hashes[0]) == 16
    assert config_hash(pretraining(tmp_path / "elsewhere")) == hashes[0]  # the yaml without its defaults
    assert config_hash(override(config, {"model.init_args.optimisation.lr": 1.0})) == hashes[2]


@pytest.mark.parametrize("resumed", [False, True])
def test_what_a_killed_fit_was_writing_is_removed(tmp_path: Path, resumed: bool) -> None:
    """Several megabytes for each kill, in the folder that is shared; other files are left alone."""
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run", max_steps=2))
    run(["fit", "--config", path])
    names = ["adapter-best.safetensors", "adapter.safetensors", "guards.json", "README.md", "metrics.csv"]
    parts = [tmp_path / "run" / f".part-0123abcd-{name}" for name in names]
    parts.append(tmp_path / "run" / "checkpoints" / ".part-0123abcd-adapter-good.safetensors")
    theirs = tmp_path / "run" / ".part-0123abcd-notes.txt"
    for part in (*parts, theirs):
        part.write_text("half")
    run(["fit", "--config", path, *(["--ckpt_path", "last", "--trainer.max_steps", "3"] if resumed else [])])
    assert not [part for part in parts if part.exists()]
    assert theirs.exists() and not list((tmp_path / "run").rglob("earlier/*/.part-*"))
