"""Log pictures of segmentations at each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.core.atomic_files import make_folder, replacing
from src.core.colours import distinct_colours
from src.core.errors import UserError
from src.explanation.picture_grid import Segmented, picture_grid
from src.segmentation.evaluation_loop import ScoredSegmentation
from src.segmentation.feature_cache import CachedFeatures


class SegmentationPictures(Callback):
    """Draws the first validation images with truth, prediction and error; always the same images.

    Writes `pictures/val-<step>.png` into the run folder, and logs it as `val/pictures` to TensorBoard and Weights &
    Biases. The first rank predicts the images once more, as `predict` would. Modules that do not segment are skipped.

    Args:
        count: Number of images; our choice.
    """

    def __init__(self, count: int = 4) -> None:
        if count < 1:
            raise UserError(f"SegmentationPictures: expected a count of at least 1, found {count}")
        self.count = count

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predict, draw, write, log.

        Raises:
            UserError: If there is no data module with the images.
        """
        if trainer.sanity_checking or not isinstance(pl_module, ScoredSegmentation):
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError("SegmentationPictures needs a data module; a data loader alone has no image names")
        if isinstance(data, CachedFeatures):
            data = data.inner  # before features replace the images
        loader = data.val_dataloader()
        images = [
            segmented(pl_module, loader.collate_fn([loader.dataset[index]]))
            for index in range(min(self.count, len(loader.dataset)))
        ]
        palette = getattr(data, "palette", None) or distinct_colours(pl_module.num_classes)
        show(trainer, "val", picture_grid(images, pl_module.class_names, palette, pl_module.ignore_index))


@torch.no_grad()
def segmented(module: ScoredSegmentation, batch: Any) -> Segmented:
    """One image, as a batch of one, with its prediction, at the size of its mask."""
    moved = move_data_to_device(batch, module.device)
    with module.trainer.precision_plugin.forward_context():
        (prediction,) = module.predict_step(moved, 0)
    truth: Tensor = batch.masks[0]
    height, width = truth.shape
    image = Image.fromarray(batch.images[0].permute(1, 2, 0).numpy())
    return Segmented(
        prediction.name,
        np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)),
        truth.numpy(),
        prediction.mask.cpu().numpy(),
    )


def show(trainer: Trainer, stage: str, picture: NDArray[np.uint8]) -> None:
    """Write and log a picture `[H, W, 3]` of this step."""
    path = Path(trainer.default_root_dir) / "pictures" / f"{stage}-{trainer.global_step:06d}.png"
    make_folder(path.parent)
    with replacing(path) as part:
        Image.fromarray(picture).save(part)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"{stage}/pictures", picture, trainer.global_step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(f"{stage}/pictures", [Image.fromarray(picture)], step=trainer.global_step)
