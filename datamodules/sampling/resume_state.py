"""Position of training in its data, so that a killed run resumes at the very next sample."""

from __future__ import annotations

import warnings

from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from datamodules.sampling.samplers import EpochSampler


class ResumeState:
    """Counts the samples that all processes together have trained on since the first epoch.

    Samples, not batches: a run may resume with another batch size or number of processes.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._batch_samples = 0  # of all processes together
        self._origin = (0, 0)  # (batches the trainer had counted, samples consumed) when this fit began
        self._restored: int | None = None

    def consumed(self) -> int:
        """Samples up to now."""
        batches, samples = self._origin
        return samples + (self._batches - batches) * self._batch_samples

    def restore(self, samples: int) -> None:
        """The next loader continues after that many samples."""
        self._restored = samples

    def follow(self, trainer: Trainer | None, sampler: EpochSampler, batch_size: int) -> None:
        """Count what a new loader gives.

        Args:
            trainer: Whose progress counts; without one nothing does.
            sampler: Sampler of the loader; learns how many samples the trainer takes of an epoch.
            batch_size: Samples per batch and process.
        """
        self._trainer, self._batch_samples = trainer, batch_size * sampler.num_replicas
        if trainer is None:
            return
        limit = trainer.limit_train_batches
        batches = min(limit, sampler.batches) if isinstance(limit, int) else int(limit * sampler.batches)
        sampler.epoch_samples = max(1, batches) * self._batch_samples
        if self._restored is not None:
            # Lightning looks for a position in the loader; this one's is kept by the data module
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
