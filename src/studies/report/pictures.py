"""Pictures of a report: segmentation overlays, and feature maps before and after."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from src.core.json_files import damaged
from src.explanation.before_after import Pixels, map_colours
from src.explanation.palette import IGNORED
from src.explanation.picture_grid import over
from src.studies.results.samples import Sample, Samples

LONGEST = 640  # pixels of a picture's longer side in a report (our choice)
SHEET = 1400  # pixels of a sheet of pictures (our choice)


def feature_colours(before: Samples, after: Samples) -> list[tuple[Pixels, Pixels]]:
    """Feature maps of each image as colours [h', w', 3], before and after, equal colours meaning equal features."""
    old, new = ([torch.from_numpy(image.features) for image in samples.images] for samples in (before, after))
    return map_colours(old, new)


def photo(sample: Sample) -> Pixels:
    """The image [h, w, 3] at the size of its mask, so that all pictures of it match."""
    height, width = sample.truth.shape
    return np.asarray(Image.fromarray(sample.image).resize((width, height), Image.Resampling.BICUBIC))


def overlay(image: Pixels, classes: NDArray[np.int64], samples: Samples) -> Pixels:
    """Classes [h, w] in their colours over the image [h, w, 3]; what belongs to no class is darkened."""
    known = (classes >= 0) & (classes < len(samples.palette))
    colours = np.full((*classes.shape, 3), IGNORED, dtype=np.uint8)
    colours[known] = samples.palette[classes[known]]
    return over(image, colours)


def classes_shown(samples: list[Samples]) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of the classes that any of the pictures has, in the order of their ids."""
    found: set[int] = set()
    for image in (image for each in samples for image in each.images):
        found |= set(np.unique(image.truth).tolist()) | set(np.unique(image.prediction).tolist())
    names, palette = samples[0].class_names, samples[0].palette.tolist()
    return [
        (names[index], (palette[index][0], palette[index][1], palette[index][2]))
        for index in sorted(found)
        if 0 <= index < len(palette)
    ]


def file_uri(path: Path) -> str | None:
    """A sheet of pictures in a file as text for a page; None where there is no such file, or a damaged one."""
    try:
        with Image.open(path) as image:
            return data_uri(np.asarray(image.convert("RGB")), longest=SHEET)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError) as error:
        damaged(path, f"expected a picture ({error})")
        return None


def data_uri(pixels: Pixels, exact: bool = False, longest: int = LONGEST) -> str:
    """A picture as text for a page, its longer side at most `longest`; `exact` keeps every pixel, for small maps."""
    image = Image.fromarray(pixels)
    stream = BytesIO()
    if exact:
        image.save(stream, "PNG", optimize=True)
    else:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        image.save(stream, "JPEG", quality=86, optimize=True)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
