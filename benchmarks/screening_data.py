"""Write the domains of the screening as small JPEG images and PNG masks: python benchmarks/screening_data.py OUT

Reads CamVid, CWFID and LoveDA below DATA_ROOT; LoveDA's tiles are cut into 256-px crops. Three kinds of painted images
differ in their informative features: scenes (colour and texture), the same in grey (texture only), and shapes (outline
only: every class has every colour and texture).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.camvid import CamVidDataModule
from datamodules.cwfid import CWFIDDataModule
from datamodules.loveda import LoveDADataModule
from datamodules.scenes.module import PaintedScenes

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
QUALITY = 88
PAINTED = {"train": 144, "val": 40}
SIDE = 256


def files(module: object, split: str, shrink: float = 1.0) -> Iterator[Pair]:
    """Images with their masks; images smaller where asked for, masks as they are."""
    source = module.source(split)  # type: ignore[attr-defined]
    for index in range(len(source)):
        image, mask = source.pair(index)
        yield cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else image, mask


def crops(pairs: Iterator[Pair], side: int = SIDE) -> Iterator[Pair]:
    """Each image cut into squares; those without a label are left out."""
    for image, mask in pairs:
        for top in range(0, image.shape[0] - side + 1, side):
            for left in range(0, image.shape[1] - side + 1, side):
                part = mask[top : top + side, left : left + side]
                if (part != 255).any():
                    yield image[top : top + side, left : left + side], part


def scenes(split: str, grey: bool) -> Iterator[Pair]:
    """Painted scenes, in colour or grey."""
    source = PaintedScenes(PAINTED[split], SIDE, 7, split)  # type: ignore[arg-type]
    for index in range(len(source)):
        image, mask = source.pair(index)
        if grey:
            image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        yield image, mask


def shapes(split: str) -> Iterator[Pair]:
    """Background, discs, squares and triangles; colour and texture are independent of the class."""
    random = np.random.default_rng([7, split == "val"])
    for _ in range(PAINTED[split]):
        image = _texture(random)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(random.integers(5, 10)):
            kind, (x, y), radius = (
                int(random.integers(1, 4)),
                random.integers(20, SIDE - 20, 2),
                random.integers(14, 36),
            )
            cover = np.zeros((SIDE, SIDE), np.uint8)
            if kind == 1:
                cv2.circle(cover, (int(x), int(y)), int(radius), 1, -1)
            else:
                count, turn = {2: 4, 3: 3}[kind], random.uniform(0, 2 * np.pi)
                angles = turn + 2 * np.pi * np.arange(count) / count
                corners = (
                    np.stack((x + radius * np.cos(angles), y + radius * np.sin(angles)), -1).round().astype(np.int32)
                )
                cv2.fillPoly(cover, [corners], 1)
            inside = cover.astype(bool)
            image[inside] = _texture(random)[inside]
            mask[inside] = kind
        yield image, mask


def _texture(random: np.random.Generator) -> NDArray[np.uint8]:
    """A random colour with noise of a random grain."""
    grain = int(random.choice([4, 16, 64]))
    noise = cv2.resize(
        random.normal(0, 25, (grain, grain, 1)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(random.uniform(40, 215, 3) + noise[..., None], 0, 255).astype(np.uint8)


def main(out: Path) -> None:
    """Write every domain."""
    root = Path(os.environ["DATA_ROOT"])
    camvid = CamVidDataModule(root / "camvid", task="segment", cache=False)
    cwfid = CWFIDDataModule(root / "cwfid", task="segment", cache=False)
    loveda = LoveDADataModule(root / "loveda", task="segment", cache=False)
    for split in ("train", "val"):
        domains = {
            "camvid": files(camvid, split),
            "cwfid": files(cwfid, split, 0.65),
            "loveda": crops(files(loveda, split)),
            "scenes": scenes(split, False),
            "scenes-grey": scenes(split, True),
            "shapes": shapes(split),
        }
        for name, pairs in domains.items():
            folder = out / name / split
            folder.mkdir(parents=True, exist_ok=True)
            for number, (image, mask) in enumerate(pairs):
                bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(folder / f"{number:04}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                cv2.imwrite(str(folder / f"{number:04}.png"), mask)
            print(name, split, number + 1, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
