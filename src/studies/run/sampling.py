"""Predict a few evaluation images for a report."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningDataModule

from src.backbones.backbone import Backbone
from src.backbones.restoration import restores
from src.core.archives import write_arrays
from src.segmentation.evaluation_loop import ScoredSegmentation
from src.segmentation.inference import padded

COUNT = 4  # images of a report (our choice)


@torch.no_grad()
def write_samples(path: Path, module: ScoredSegmentation, data: LightningDataModule) -> None:
    """Predict `COUNT` evaluation images, spread evenly over the set and so not chosen by their result.

    `module` cannot be used afterwards: its adapters are removed to check that the backbone below is still the frozen
    one.
    """
    loader = data.test_dataloader()
    indices = np.linspace(0, len(loader.dataset) - 1, min(COUNT, len(loader.dataset))).round().astype(int).tolist()
    module.eval()
    backbone = module.backbone
    assert isinstance(backbone, Backbone)
    content: dict[str, Any] = {
        "class_names": np.asarray(module.class_names),
        "palette": np.asarray(getattr(data, "palette", []), dtype=np.uint8).reshape(-1, 3),
        "ignore_index": np.asarray(module.ignore_index),
        "names": np.asarray([]),
    }
    names: list[str] = []
    for number, index in enumerate(indices):
        batch = move_data_to_device(loader.collate_fn([loader.dataset[index]]), module.device)
        truth = batch.masks[0]
        content[f"image{number}"] = batch.images[0].permute(1, 2, 0).cpu().numpy()
        content[f"truth{number}"] = truth.cpu().numpy().astype(np.int16)
        (prediction,) = module.predict_step(batch, 0)
        content[f"prediction{number}"] = prediction.mask.cpu().numpy().astype(np.int16)
        content[f"features{number}"] = (
            backbone.feature_maps(padded(batch.images[0][None], backbone.patch_size))[-1][0].half().cpu().numpy()
        )
        names.append(batch.names[0])
    if backbone.adapter is not None:
        content["restored"] = np.asarray(restores(backbone, padded(batch.images[0][None], backbone.patch_size)))
    write_arrays(path, **{**content, "names": np.asarray(names)})
