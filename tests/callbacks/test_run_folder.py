"""What a fit finds in its run folder is never lost."""

from __future__ import annotations

from pathlib import Path

from src.cli import main as run
from tests.command_line import losses, pretraining, written


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
        }
    assert len(losses(tmp_path / "run")) == 2


def test_a_resumed_fit_appends(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run"))
    run(["fit", "--config", path])
    before = (tmp_path / "run" / "metrics.csv").read_text()
    run(["fit", "--config", path, "--ckpt_path", "last", "--trainer.max_steps", "4"])
    assert (tmp_path / "run" / "metrics.csv").read_text().startswith(before)
    assert len(losses(tmp_path / "run")) == 4
    assert not (tmp_path / "run" / "earlier").exists()
