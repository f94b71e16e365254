"""Convert Cityscapes' 34 label ids to the 19 train ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from datamodules.preparing.png import write_png
from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE, mask_ids, read_mask

# label id of each train id, in their order: road, sidewalk, building, wall, fence, pole, traffic light, traffic sign,
# vegetation, terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle (cityscapesScripts, labels.py)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS = dict.fromkeys(range(34), IGNORE) | {label: train for train, label in enumerate(LABEL_IDS)}


def write_train_ids(root: Path) -> None:
    """Write `*_gtFine_labelTrainIds.png` next to each `*_gtFine_labelIds.png`, as cityscapesScripts name them.

    Readable ones are kept.

    Args:
        root: Holds `gtFine`.

    Raises:
        ImageError: If a mask is unreadable or holds an id outside the 34.
    """
    files = sorted((root / "gtFine").rglob("*_gtFine_labelIds.png"))
    with ThreadPoolExecutor(DECODERS) as threads:
        list(tqdm(threads.map(_convert, files), "train ids", len(files), unit="mask", delay=1))


def _convert(path: Path) -> None:
    target = path.with_name(path.name.replace("_labelIds", "_labelTrainIds"))
    if not (target.is_file() and _is_readable(target)):
        write_png(target, read_mask(path, TRAIN_IDS))


def _is_readable(mask: Path) -> bool:
    try:
        mask_ids(mask)
    except ImageError:
        return False
    return True
