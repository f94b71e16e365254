"""Sample predictions and features of evaluation images, for a report's pictures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.core.archives import read_arrays
from src.core.errors import UserError
from src.core.json_files import damaged


class Sample(NamedTuple):
    """One image as a report shows it."""

    name: str
    image: NDArray[np.uint8]  # [H, W, 3] as the network saw it
    truth: NDArray[np.int64]  # [h, w] at its native size
    prediction: NDArray[np.int64]  # [h, w]
    features: NDArray[np.float16]  # [D, h', w'] of the last block


class Samples(NamedTuple):
    """The images of one evaluation, and how its classes are called and coloured."""

    images: list[Sample]
    class_names: list[str]
    palette: NDArray[np.uint8]  # [C, 3]
    ignore_index: int
    restored: bool | None  # adapters off, the features were the frozen ones to the bit; None where it was not checked


def read_samples(path: Path) -> Samples | None:
    """Read what `sampling.write_samples` wrote; None where there is no such file, or none that can be read whole."""
    try:
        file = read_arrays(path)
        images = [
            Sample(
                name=str(name),
                image=file[f"image{number}"],
                truth=file[f"truth{number}"].astype(np.int64),
                prediction=file[f"prediction{number}"].astype(np.int64),
                features=file[f"features{number}"],
            )
            for number, name in enumerate(file["names"])
        ]
        restored = bool(file["restored"]) if "restored" in file else None
        return Samples(images, file["class_names"].tolist(), file["palette"], int(file["ignore_index"]), restored)
    except FileNotFoundError:
        return None
    except KeyError as error:
        damaged(path, f"expected pictures of an evaluation, found no array {error}")
        return None
    except UserError as error:
        damaged(path, str(error).removeprefix(f"{path}: "))
        return None
