"""Position of training in its data, so that a killed run resumes at the very next sample."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.reading.sources import Source
from datamodules.sampling.samplers import EpochSampler
from src.core.errors import UserError
from src.core.file_contents import content_fingerprint


class ResumeState:
    """Counts the samples that all processes together have trained on since the first epoch.

    Samples, not batches: a run may resume with another batch size or number of processes.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._batch_samples = 0  # of all processes together
        self._origin = (0, 0)  # (batches the trainer had counted, samples consumed) when this fit began
        self._restored: int | None = None
        self._images: dict[str, Any] = {}  # `identity_of` the images that are trained on
        self._expected: Mapping[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """State for a checkpoint: samples consumed, and the identity of their images."""
        return {"samples": self.consumed(), **self._images}

    def consumed(self) -> int:
        """Samples so far."""
        batches, samples = self._origin
        return samples + (self._batches - batches) * self._batch_samples

    def restore(self, state: Mapping[str, Any]) -> None:
        """Let the next loader continue at a checkpoint's position, with the same images."""
        self._restored, self._expected = int(state["samples"]), state

    def follow(self, trainer: Trainer | None, sampler: EpochSampler, batch_size: int, images: Source) -> None:
        """Count the samples of a new loader.

        Args:
            trainer: Its progress is counted; nothing is counted without one.
            sampler: Sampler of the loader; is told how many samples of an epoch the trainer uses.
            batch_size: Samples per batch and process.
            images: The images that the loader reads.

        Raises:
            UserError: If a resumed run was trained on other images.
        """
        self._images = identity_of(images)
        changed = {key for key, value in self._images.items() if self._expected.get(key, value) != value}
        if changed == {"contents"}:
            rank_zero_warn(
                f"the run to resume was trained on {len(images)} images with the same names but other contents: "
                "images or masks were replaced after its checkpoint, so the result would depend on both; start a new "
                "run in another folder, without --ckpt_path, unless that is intended"
            )
        elif changed:
            before, now = self._expected["images"], self._images["images"]
            raise UserError(
                f"the run to resume was trained on {before} images, found "
                f"{now if now != before else 'as many with other names'}; restore the same images, or start a new run "
                "in another folder, without --ckpt_path"
            )
        self._expected = {}
        self._trainer, self._batch_samples = trainer, batch_size * sampler.num_replicas
        if trainer is None:
            return
        limit = trainer.limit_train_batches
        batches = min(limit, sampler.batches) if isinstance(limit, int) else int(limit * sampler.batches)
        sampler.epoch_samples = max(1, batches) * self._batch_samples
        if self._restored is not None:
            # Lightning expects a position in the loader, but the data module keeps it
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
            self._origin, self._restored = (self._batches, self._restored), None

    @property
    def _batches(self) -> int:
        """Batches trained on since the first epoch, as the trainer counts them and keeps in its checkpoints."""
        if self._trainer is None:
            return 0
        total = self._trainer.fit_loop.epoch_loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        return total.processed


def identity_of(images: Source) -> dict[str, Any]:
    """Number of images, a hash of their names in order, and a hash of their contents and masks."""
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(images)):
        digest.update(images.name(index).encode("utf-8", "surrogateescape") + b"\0")
    return {"images": len(images), "names": digest.hexdigest(), "contents": content_fingerprint(images)}
