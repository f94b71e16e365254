"""Convert Pascal Context's annotation file to masks of 59 classes and split lists."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.preparing.png import write_png
from datamodules.reading.errors import ImageError
from src.core.atomic_files import write_text

# ids of the 59 most frequent of the 459 categories, which the field evaluates; a mask's id is the place in this order,
# which is the alphabetical order of the names (aeroplane, bag, bed, …, wood); 0, background, comes before them
CATEGORIES = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip


def write_pascal_context(annotation: Path, root: Path) -> None:
    """Write `SegmentationClassContext/*.png` and `ImageSets/SegmentationContext/{train,val}.txt`.

    Args:
        annotation: `trainval_merged.json`.
        root: The folder of `JPEGImages`.

    Raises:
        ImageError: If the annotation has another format.
    """
    try:
        content = json.loads(annotation.read_bytes())
        images, segments = content["images"], content["annos_segmentation"]
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{annotation}: expected images and annos_segmentation, found {error!r}") from error
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for segment in segments:
        of_image[segment["image_id"]].append(segment)
    masks, lists = root / "SegmentationClassContext", root / "ImageSets" / "SegmentationContext"
    masks.mkdir(parents=True, exist_ok=True)
    lists.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {"train": [], "val": []}
    for image in tqdm(images, "masks", unit="image", delay=1):
        if image["phase"] not in names:
            continue  # test: published without annotation
        stem = Path(image["file_name"]).stem
        names[image["phase"]].append(stem)
        mask = semantic_mask(of_image[image["image_id"]], image["height"], image["width"])
        write_png(masks / f"{stem}.png", mask)
    for split, stems in names.items():
        write_text(lists / f"{split}.txt", "".join(f"{stem}\n" for stem in sorted(stems)))


def semantic_mask(segments: list[dict[str, Any]], height: int, width: int) -> NDArray[np.uint8]:
    """Paint the segments of one image, the later over the earlier.

    Args:
        segments: Each with `category_id` and, run-length encoded as COCO does, `segmentation`.
        height: Height of the image.
        width: Width of the image.

    Returns:
        uint8 `[height, width]`, 0 for background and all categories beyond the 59.
    """
    from pycocotools import mask as runs  # of the extra `prepare`

    ids = {category: place for place, category in enumerate(CATEGORIES, start=1)}
    mask = np.zeros((height, width), np.uint8)
    for segment in segments:
        mask[runs.decode(segment["segmentation"]).astype(bool)] = ids.get(segment["category_id"], 0)
    return mask
