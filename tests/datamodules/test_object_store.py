"""Chunks in an object store over HTTP: written, streamed by two workers, resumed, over a line that breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.streaming import StreamingDataModule, write_chunks
from src.__main__ import main
from tests.command_line import losses, pretraining
from tests.datamodules.object_store import KEY, SECRET, Line, object_store
from tests.datamodules.pictures import gradient, save
from tests.datamodules.test_streaming import Recorder, keys

CHUNKS = "s3://images/chunks"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A store that holds 24 images in chunks of a few."""
    folder, variables = tmp_path_factory.mktemp("images"), pytest.MonkeyPatch()
    for i in range(24):
        pixels = gradient(40 + i, 60)
        pixels[..., 2] = i * 10
        save(folder / f"{i}.png", pixels)
    with object_store("images") as (line, environment):
        for name, value in environment.items():
            variables.setenv(name, value)
        assert write_chunks(folder, CHUNKS, chunk_bytes="4KB") == 24
        yield line
    variables.undo()


def fit(folder: Path, steps: int, resume: Path | None = None) -> list[tuple[int, int]]:
    """(epoch, image) of batches of four by two workers, six batches an epoch, with a checkpoint after each."""
    module, saver = Recorder(), ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    data = StreamingDataModule(CHUNKS, batch_size=4, size=16, num_workers=2, seed=5, cache_folder=str(folder / "kept"))
    Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, callbacks=[saver], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    ).fit(module, data, ckpt_path=resume, weights_only=False)  # fmt: skip
    return keys(module.seen)


def test_each_image_once_an_epoch_and_a_resumed_fit_goes_on_in_the_middle(line: Line, tmp_path: Path) -> None:
    before = line.answers
    seen = fit(tmp_path / "a", 9)
    assert line.answers > before + 3  # it came through the line
    assert sorted(image for epoch, image in seen if epoch == 0) == list(range(24))
    rest = fit(tmp_path / "b", 9, tmp_path / "a" / "step=2.ckpt")  # with a cache of its own
    assert rest == seen[2 * 4 :]


def test_a_lost_connection_is_retried(line: Line, tmp_path: Path) -> None:
    calm = fit(tmp_path / "calm", 6)
    line.lost, line.cuts = 0, 3
    line.refused = time.monotonic() + 2
    assert fit(tmp_path / "broken", 6) == calm
    assert line.cuts == 0 and line.lost > 3


def test_no_file_and_no_output_holds_the_credentials(
    line: Line, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = pretraining(tmp_path / "run", max_steps=3)
    arguments = {
        "chunks": CHUNKS,
        "batch_size": 4,
        "size": 32,
        "num_workers": 1,
        "cache_folder": str(tmp_path / "kept"),
    }
    config["data"] = {"class_path": "datamodules.streaming.StreamingDataModule", "init_args": arguments}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "fit.yaml")]) == 0
    assert len(losses(tmp_path / "run")) == 3
    output = "".join(capfd.readouterr())
    for credential in (KEY, SECRET):
        assert credential not in output
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and credential.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "address",
    [f"s3://{KEY}:{SECRET}@images/chunks", "s3://images/chunks?X-Amz-Signature=abc", f"s3://{KEY}@images/chunks"],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(address: str) -> None:
    with pytest.raises(ValueError, match="expected an address without credentials") as caught:
        StreamingDataModule(address)
    assert not [word for word in (KEY, SECRET, "abc") if word in str(caught.value)]
