"""Run by test_ranks.py in processes of its own: short fits and evaluations, written to a folder.

python -m tests.segmentation_ranks FOLDER PROCESSES [FOLDER OF ANOTHER ONE, TO RESUME FROM STEP 2]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import distributed

from src.backbones.backbone import Backbone
from src.probes.dense_knn import NearestNeighbours
from src.segmentation import SemanticSegmentation
from src.segmentation.decoders.linear import LinearDecoder
from src.segmentation.decoders.semantic_fpn import SemanticFPN
from tests.coloured_blocks import BlocksDataModule, trainer
from tests.ranks import SaveAt
from tests.tiny import TINY


def pyramid(width: int, classes: int) -> SemanticFPN:
    """A head with batch norm, whose statistics are those of the global batch; dropout draws are each rank's own."""
    return SemanticFPN(width, classes, blocks=(2, 5), scales=(2.0, 1.0), channels=8, head_channels=8, dropout=0.0)


def trainer_of(folder: Path, devices: int, **options: object) -> Trainer:
    """A float64 trainer on this many processes."""
    strategy = "ddp" if devices > 1 else "auto"
    return trainer(folder, devices=devices, strategy=strategy, precision="64-true", **options)


def main(folder: Path, devices: int, begun: Path | None = None) -> None:
    """Three steps of 4 images, whatever the number of processes, cached or not; neighbours; 5 images tested."""
    torch.set_num_threads(1)
    heads = {"pixels": LinearDecoder, "cached": LinearDecoder, "pyramid": pyramid}
    for name, head in heads.items():
        torch.manual_seed(0)
        model = SemanticSegmentation(
            Backbone(TINY, "none"),
            3,
            decoder=head,
            loss_grid="decoder" if name == "cached" else "pixels",
            cache_features=name == "cached",
            lr=3e-2,
            boundary=0.02,
        )
        saved = [] if begun else [SaveAt(folder / f"{name}.ckpt")]
        run = trainer_of(folder / name, devices, max_epochs=3, callbacks=saved)
        resume = None if begun is None else begun / f"{name}.ckpt"
        run.fit(model, datamodule=BlocksDataModule(4), ckpt_path=resume, weights_only=True)
        assert run.global_step == 3
        if run.is_global_zero:
            torch.save(model.decoder.state_dict(), folder / f"{name}.pt")
    neighbours = NearestNeighbours(Backbone(TINY, "none"), 3, neighbours=5, max_patches=100)
    trainer_of(folder / "neighbours", devices).test(neighbours, datamodule=BlocksDataModule(), verbose=False)
    if distributed.is_initialized():
        try:
            trainer_of(folder / "refused", devices, max_epochs=1).fit(neighbours, datamodule=BlocksDataModule())
        except ValueError as error:
            (folder / "refused.txt").write_text(str(error), encoding="utf-8")
        distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
